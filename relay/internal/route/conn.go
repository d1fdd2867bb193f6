package route

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// conn is one call's stream as a net.Conn: it puts the Open in front of the first Write and takes the Opened off the
// first Read. A refusal is that Read's error.
type conn struct {
	link.Stream
	link *registry.Link

	frame  []byte // the Open, until it is written; touched by Write alone
	opened bool   // touched by Read alone
	wrote  atomic.Bool
	failed atomic.Pointer[error] // the first error of either direction that this side did not cause
	ended  atomic.Bool           // by this side
}

// newConn counts the call in; Close and Reset count it out.
func newConn(l *registry.Link, stream link.Stream, frame []byte) *conn {
	l.Begin()
	return &conn{Stream: stream, link: l, frame: frame}
}

func (c *conn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	open := len(c.frame)
	if open > 0 {
		p, c.frame = append(c.frame, p...), nil // one write, one round trip
	}
	n, err := c.Stream.Write(p)
	return max(n-open, 0), c.note(err)
}

// ReadFrom is what net/http uses for a body of known length; its own way would make a buffer for each.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, buf[:])
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (c *conn) Read(p []byte) (int, error) {
	if !c.opened {
		if err := c.readOpened(); err != nil {
			return 0, err
		}
	}
	n, err := c.Stream.Read(p)
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, c.note(err)
}

// readOpened reads the agent's answer; a refusal is a *protocol.Error. An end instead of an answer is a broken one.
func (c *conn) readOpened() error {
	m, err := protocol.ReadOpened(c.Stream)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && m.Code != protocol.OK {
		err = &protocol.Error{Code: m.Code, Sentence: m.Sentence, Sent: m.Sent}
	}
	if err != nil {
		return c.note(err)
	}
	c.opened = true
	return nil
}

// note keeps the first error, and a refusal before any other: a Write may fail first because the agent has refused.
func (c *conn) note(err error) error {
	if err == nil || c.ended.Load() || c.failed.CompareAndSwap(nil, &err) {
		return err
	}
	if _, ok := errors.AsType[*protocol.Error](err); ok {
		c.failed.Store(&err)
	}
	return err
}

// failure is the first error of the stream, nil where there was none.
func (c *conn) failure() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fault says what err, or the stream's own first error, means to the caller.
func (c *conn) fault(err error) *protocol.Error {
	if own := c.failure(); own != nil {
		err = own
	}
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		return refusal
	}
	if errors.Is(err, protocol.ErrMalformed) {
		return &protocol.Error{Code: protocol.Internal, Sentence: "internal error", Sent: true, Cause: err}
	}
	return streamFault(err, c.wrote.Load())
}

func (c *conn) Close() error {
	c.leave()
	return c.Stream.Close()
}

func (c *conn) Reset(code uint16) {
	c.leave()
	c.Stream.Reset(code)
}

func (c *conn) leave() {
	if !c.ended.Swap(true) {
		c.link.End()
	}
}

func (c *conn) LocalAddr() net.Addr  { return address(c.link.Session.Info().Local) }
func (c *conn) RemoteAddr() net.Addr { return address(c.link.Session.Info().Remote) }

// address never is nil, which net/http would not survive; a link in memory has none.
func address(a net.Addr) net.Addr {
	if a == nil {
		return &net.UnixAddr{Net: "memory"}
	}
	return a
}
