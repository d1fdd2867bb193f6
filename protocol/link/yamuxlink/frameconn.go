package yamuxlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

// What frameConn knows of yamux's frames: version u8, type u8, flags u16, stream u32, length u32, big endian; data
// frames alone have a body.
const (
	frameHeaderSize = 12
	frameData       = 0
	frameUpdate     = 1
	flagSYN         = 1
	maxFrame        = link.ChunkHeaderSize + link.MaxChunkData
)

// closeGrace bounds how long the TLS goodbye may take on a socket that takes nothing more.
const closeGrace = 200 * time.Millisecond

var (
	errPeerClosed = errors.New("the peer closed the connection")
	errBadFrame   = errors.New("malformed yamux frame")
)

// frameConn is the connection as yamux sees it. Inwards it counts, and refuses frames that no peer of ours sends, before
// yamux spends memory or goroutines on them. Outwards yamux writes the frames that open, answer and end streams; those
// that carry bytes are built here, in one copy and without a hand-over, by whoever calls Stream.Write (see send.go).
type frameConn struct {
	net.Conn
	client   bool
	received atomic.Uint64
	// ended is told of the end before yamux is, and closes the connection: see Session.fail.
	ended func(cause error)

	in     [frameHeaderSize]byte // of the frame that is arriving
	inHave int                   // bytes of in
	inBody int                   // bytes of the body still to come

	sender
}

func newFrameConn(conn net.Conn, client bool, ended func(cause error)) *frameConn {
	c := &frameConn{Conn: conn, client: client, ended: ended}
	c.begin(socket.Under(conn))
	return c
}

// Read implements io.Reader, for yamux's one reading goroutine. It returns a header or bytes of one body and never both,
// so that yamux's small buffer stays empty and bodies pass it by, without a copy.
func (c *frameConn) Read(p []byte) (int, error) {
	inHeader := c.inBody == 0
	if inHeader {
		p = p[:min(len(p), frameHeaderSize-c.inHave)]
	} else {
		p = p[:min(len(p), c.inBody)]
	}
	n, err := c.Conn.Read(p)
	c.received.Add(uint64(n)) //nolint:gosec // a count
	if !inHeader {
		c.inBody -= n
	} else if c.inHave += copy(c.in[c.inHave:], p[:n]); c.inHave == frameHeaderSize {
		c.inHave = 0
		if bad := c.checkHeader(); bad != nil {
			n, err = 0, bad
		}
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errPeerClosed // never io.EOF, which could pass for a stream's end
		}
		c.ended(err)
	}
	return n, err
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

// Close ends the connection, with a goodbye where that takes no time. Later calls do nothing. yamux calls it when the
// peer has broken its rules.
func (c *frameConn) Close() error {
	c.ended(errBadFrame)
	first, writing := c.claimClose()
	if !first {
		return nil
	}
	raw := c.raw()
	switch {
	case raw == c.Conn:
	case c.sock == nil:
		// A Write that hangs makes tls.Conn.Close leave the goodbye out; a full socket without one does not.
		timer := time.AfterFunc(closeGrace, func() { _ = raw.Close() })
		defer timer.Stop()
		return c.Conn.Close()
	case !writing: // and nobody will: what TLS says goes to the socket, and out if that takes no time
		c.sayGoodbye(raw)
	}
	return raw.Close()
}

func (c *frameConn) sayGoodbye(raw net.Conn) {
	t, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || t.CloseWrite() != nil || raw.SetWriteDeadline(time.Time{}) != nil { // TLS leaves one that has passed
		return
	}
	_, _ = c.sock.TryFlush() // a peer that does not get it sees the connection end
}

// claimClose makes it the caller's to close, where it is the first one, and says whether somebody is writing.
func (c *frameConn) claimClose() (first, writing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = !c.closed
	c.closed = true
	c.work.Broadcast()
	c.room.Broadcast()
	return first, c.writing
}

// raw is the connection under TLS.
func (c *frameConn) raw() net.Conn {
	if t, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c.Conn
}
