// Package socket is the TCP socket under TLS: Conn reads and writes many TLS records with one system call, Tune sets
// what the kernel offers (congestion control, time-outs, how much may wait unsent), and Stats reads what it knows.
//
// It does no TLS and no framing of streams. What a platform lacks is left out silently, and Stats shows what is in force.
package socket

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	// smallRead is the buffer, in bytes, of a connection on which little comes at a time. It may wait for bytes in it.
	smallRead = 2 << 10
	// readSize is how many bytes one system call may bring where much does: eight records of TLS.
	readSize = 128 << 10
	// recordHeader is a TLS record's: type u8, version u16, length u16 (RFC 8446 §5.1).
	recordHeader = 5
	// maxOut is how many gathered bytes more may be added to. Whoever flushes gathers far less; a peer could have TLS
	// answer key updates without end.
	maxOut = 1 << 20
	// keepOut is what an output buffer may have grown to and still be used again.
	keepOut = 128 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallRead); return &b }}
	inBuffers    = sync.Pool{New: func() any { b := make([]byte, readSize); return &b }}
	outBuffers   = sync.Pool{New: func() any { b := make([]byte, 0, 66<<10); return &b }}
)

var errOverflow = errors.New("too many bytes wait to be sent")

// Conn lies between TCP and TLS. Reading, it holds a large buffer only while there are bytes for it, and gives TLS one
// record at a time, so that HasRecord is exact. Writing, it passes everything through until Cork; from then on Write only
// gathers, and Flush sends.
//
// Read with Hold and HasRecord, and the group of Cork, Flush, TryFlush and Pending, are each for one goroutine at a time; the other methods are
// as net.Conn's.
type Conn struct {
	net.Conn
	raw syscall.RawConn // nil where the connection has none

	in       *[]byte // nil while nothing is buffered
	inR, inW int     // unread are in[inR:inW]
	record   int     // bytes of the current record that TLS has not got yet; 0: a header comes next
	busy     bool    // much comes at a time
	held     bool    // Read does not wait
	fillFD   func(fd uintptr) bool
	fillErr  error

	corked  bool
	sending *[]byte // what Flush is at; nil: nothing
	sent    int     // of sending
	tryFD   func(fd uintptr) bool
	tried   int
	tryErr  error

	// mu guards: out. TLS also writes from its reading side, to answer a key update.
	mu  sync.Mutex
	out *[]byte // what was gathered; nil: nothing
}

// Wrap makes a Conn of a TCP connection (or of any other, which then is merely buffered).
func Wrap(conn net.Conn) *Conn {
	c := &Conn{Conn: conn}
	if s, ok := conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.fillFD, c.tryFD = c.fillFrom, c.tryTo
	return c
}

// Read gives out what is buffered, at most to the end of the current TLS record; where nothing is, it waits for bytes.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.inR == c.inW || c.record == 0 && c.inW-c.inR < recordHeader {
		if err := c.await(); err != nil {
			return 0, err // a header that is cut here stays, so that records stay followed
		}
	}
	if c.record == 0 {
		c.record = recordSize((*c.in)[c.inR:])
	}
	n := copy(p, (*c.in)[c.inR:min(c.inW, c.inR+c.record)])
	c.record -= n
	c.inR += n
	if c.inR == c.inW {
		c.releaseIn()
	}
	return n, nil
}

// await brings bytes, behind the cut header that is there.
func (c *Conn) await() error {
	switch {
	case c.held:
		return os.ErrDeadlineExceeded
	case c.inR == c.inW:
		return c.fill()
	}
	c.inR, c.inW = 0, copy(*c.in, (*c.in)[c.inR:c.inW])
	return c.fillMore()
}

// Hold makes Read, while it is on, fail with os.ErrDeadlineExceeded where it would have to wait.
func (c *Conn) Hold(on bool) { c.held = on }

// HasRecord reports whether a whole TLS record is buffered, so that a Read of TLS will not wait.
func (c *Conn) HasRecord() bool {
	have := c.inW - c.inR
	if c.record > 0 {
		return have >= c.record
	}
	return have >= recordHeader && have >= recordSize((*c.in)[c.inR:])
}

// recordSize is the size of the TLS record that b begins with, its header included.
func recordSize(b []byte) int {
	return recordHeader + int(binary.BigEndian.Uint16(b[3:recordHeader]))
}

func (c *Conn) releaseIn() {
	if len(*c.in) == smallRead {
		smallBuffers.Put(c.in)
	} else {
		inBuffers.Put(c.in)
	}
	c.in, c.inR, c.inW = nil, 0, 0
}

// fillMore waits for bytes with a buffer in hand, behind those that are there.
func (c *Conn) fillMore() error {
	if c.in == nil {
		c.in = smallBuffers.Get().(*[]byte)
	}
	from := c.inW
	n, err := c.Conn.Read((*c.in)[from:])
	if n > 0 {
		c.inW = from + n
		c.busy = c.inW == len(*c.in)
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if from == 0 {
		c.releaseIn()
	}
	return err
}

// Cork makes Write gather from now on, for good.
func (c *Conn) Cork() { c.corked = true }

// Write sends p, or keeps a copy of it for Flush when corked.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.corked {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		c.out = outBuffers.Get().(*[]byte)
	}
	if len(*c.out) > maxOut {
		return 0, errOverflow
	}
	*c.out = append(*c.out, p...)
	return len(p), nil
}

// Pending is how many bytes wait for Flush.
func (c *Conn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	if c.out != nil {
		n = len(*c.out)
	}
	if c.sending != nil {
		n += len(*c.sending) - c.sent
	}
	return n
}

// next reports whether there is something to send, and makes sending what was gathered where nothing is left of it.
func (c *Conn) next() bool {
	if c.sending != nil && c.sent < len(*c.sending) {
		return true
	}
	if c.sending != nil && cap(*c.sending) <= keepOut {
		*c.sending = (*c.sending)[:0]
		outBuffers.Put(c.sending)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending, c.sent, c.out = c.out, 0, nil
	return c.sending != nil
}

// Flush sends what was gathered, and blocks as Write does. After an error (a deadline, say) what is left waits for the
// next Flush.
func (c *Conn) Flush() error {
	for c.next() {
		n, err := c.Conn.Write((*c.sending)[c.sent:])
		c.sent += n
		if err != nil {
			return err
		}
	}
	return nil
}

// CloseWrite ends the outgoing direction of the connection below.
func (c *Conn) CloseWrite() error {
	if d, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return d.CloseWrite()
	}
	return c.Close()
}

// SetLinger is TCP's: with 0, Close sends RST.
func (c *Conn) SetLinger(sec int) error {
	if d, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return d.SetLinger(sec)
	}
	return nil
}

// Unwrap returns the connection below.
func (c *Conn) Unwrap() net.Conn { return c.Conn }

// Under finds the Conn under a TLS connection, or conn itself; nil where there is none.
func Under(conn net.Conn) *Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*Conn)
	return c
}
