package yamuxlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// What frameConn knows of yamux's frames: version u8, type u8, flags u16, stream u32, length u32, big endian; data
// frames alone have a body.
const (
	frameHeaderSize = 12
	frameData       = 0
	frameUpdate     = 1
	flagSYN         = 1
	maxFrame        = link.ChunkHeaderSize + link.MaxChunkData
	maxRecord       = 16 << 10 // of TLS
)

// closeGrace bounds how long the TLS goodbye may take on a socket that takes nothing more.
const closeGrace = 200 * time.Millisecond

var (
	errPeerClosed = errors.New("the peer closed the connection")
	errBadFrame   = errors.New("malformed yamux frame")
)

// frameConn is the connection as yamux sees it. Outwards it joins a frame's header and body, which yamux writes one
// after the other, and frames that come close together, so that they leave as one TLS record. Inwards it counts, and
// refuses frames that no peer of ours sends, before yamux spends memory or goroutines on them.
type frameConn struct {
	net.Conn
	client   bool
	received atomic.Uint64
	// ended is told of the end before yamux is, and closes the connection: see Session.fail.
	ended func(cause error)

	in     [frameHeaderSize]byte // of the frame that is arriving
	inHave int                   // bytes of in
	inBody int                   // bytes of the body still to come

	header []byte // of an outgoing frame, waiting for its body

	// mu guards:
	mu      sync.Mutex
	changed sync.Cond // out or closed
	out     []byte    // whole frames on their way to flush
	closed  bool
}

func newFrameConn(conn net.Conn, client bool, ended func(cause error)) *frameConn {
	c := &frameConn{Conn: conn, client: client, ended: ended}
	c.changed.L = &c.mu
	return c
}

// Read implements io.Reader, for yamux's one reading goroutine.
func (c *frameConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(uint64(n)) //nolint:gosec // a count
	if bad := c.check(p[:n]); bad != nil {
		n, err = 0, bad
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errPeerClosed // never io.EOF, which could pass for a stream's end
		}
		c.ended(err)
	}
	return n, err
}

// check follows the frames through b.
func (c *frameConn) check(b []byte) error {
	for len(b) > 0 {
		if c.inBody > 0 {
			k := min(c.inBody, len(b))
			c.inBody -= k
			b = b[k:]
			continue
		}
		k := copy(c.in[c.inHave:], b)
		c.inHave += k
		b = b[k:]
		if c.inHave < frameHeaderSize {
			return nil
		}
		c.inHave = 0
		if err := c.checkHeader(); err != nil {
			return err
		}
	}
	return nil
}

func (c *frameConn) checkHeader() error {
	kind, flags := c.in[1], binary.BigEndian.Uint16(c.in[2:])
	id, length := binary.BigEndian.Uint32(c.in[4:]), binary.BigEndian.Uint32(c.in[8:])
	switch {
	case c.in[0] != 0:
		return fmt.Errorf("%w: expected version 0, got %d", errBadFrame, c.in[0])
	case kind > frameUpdate: // for each ping yamux would start a goroutine; no other is sent to a peer without fault
		return fmt.Errorf("%w: expected data or a window, got type %d", errBadFrame, kind)
	case flags&flagSYN != 0 && (id == 0 || id%2 == 1 == c.client):
		return fmt.Errorf("%w: stream %d opened from the wrong side", errBadFrame, id)
	case kind == frameData && length > maxFrame: // yamux would allocate it all before the first byte
		return fmt.Errorf("%w: a frame of %d bytes, expected at most %d", link.ErrPeerFlooded, length, maxFrame)
	case kind == frameData:
		c.inBody = int(length)
	}
	return nil
}

// Write implements io.Writer, for yamux's one writing goroutine. It returns once the bytes are on their way, unless
// flush is a record behind.
func (c *frameConn) Write(p []byte) (int, error) {
	if len(c.header) == 0 && len(p) == frameHeaderSize && p[1] == frameData && binary.BigEndian.Uint32(p[8:]) > 0 {
		c.header = append(c.header, p...)
		return len(p), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && len(c.out)+len(c.header)+len(p) > maxRecord && !c.closed {
		c.changed.Wait()
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	c.out = append(append(c.out, c.header...), p...)
	c.header = c.header[:0]
	c.changed.Broadcast()
	return len(p), nil
}

// flush writes what Write was given until the connection is closed. What comes while a write is under way goes out
// together: small frames share a TLS record when there are many, and none waits when there are few.
func (c *frameConn) flush() {
	var batch []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closed {
			c.changed.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		batch, c.out = c.out, batch[:0]
		c.changed.Broadcast()
		c.mu.Unlock()
		if err := c.writeOut(batch); err != nil {
			c.ended(err)
			return
		}
		if cap(batch) > 2*maxRecord {
			batch = nil
		}
	}
}

func (c *frameConn) writeOut(batch []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(batch)
	return err
}

// Close ends the connection, with a goodbye where that takes no time. Later calls do nothing. yamux calls it when the
// peer has broken its rules.
func (c *frameConn) Close() error {
	c.ended(errBadFrame)
	if !c.claimClose() {
		return nil
	}
	raw := c.raw()
	if raw == c.Conn {
		return raw.Close()
	}
	// A Write that hangs makes tls.Conn.Close leave the goodbye out; a full socket without one does not.
	timer := time.AfterFunc(closeGrace, func() { _ = raw.Close() })
	defer timer.Stop()
	return c.Conn.Close()
}

func (c *frameConn) claimClose() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.closed
	c.closed = true
	c.changed.Broadcast()
	return first
}

// raw is the connection under TLS.
func (c *frameConn) raw() net.Conn {
	if t, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c.Conn
}
