package dispatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// phase is how far an exchange has come.
type phase int

const (
	phaseHeader  phase = iota // net/http reads the request's header; what it writes is an error page of its own
	phaseHandler              // the handler runs, or has ended well and net/http flushes
	phaseFailed               // not another byte goes out through net/http
)

// exchange is the net.Conn that the http.Server sees: a stream behind its Open. It puts Opened in front of the first
// byte that is written, keeps net/http's own error pages from the wire, and cancels the call when the stream breaks.
// How the stream ends is decided in serveHTTP, when the server is done with it.
type exchange struct {
	*call
	ctx    context.Context
	cancel context.CancelCauseFunc

	done     chan struct{} // closed when the server has closed the connection
	doneOnce sync.Once
	handled  chan struct{} // closed when the handler has returned, or will not be called

	in, out  atomic.Int64
	progress atomic.Int64 // time of the last byte either way, in nanoseconds since started

	closed atomic.Bool // no Read begins any more
	readMu sync.Mutex  // held during a Read of the stream

	mu       sync.Mutex // guards:
	phase    phase
	failure  *protocol.Error
	began    bool // the handler was called
	complete bool // the handler has given its whole response
	answered bool // Opened is on the wire
	upgraded bool // the connection was hijacked
	ended    bool // upgraded, and the backend has ended its direction
	idle     *time.Timer
}

// Read reads from the peer. The peer's end is an end and nothing more: net/http takes it for a client gone, which is
// why the handler works on the exchange's own context. A reset or a lost link cancels it.
func (x *exchange) Read(p []byte) (int, error) {
	x.readMu.Lock()
	defer x.readMu.Unlock()
	if x.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := x.stream.Read(p)
	if n > 0 {
		x.in.Add(int64(n))
		x.touch()
	}
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case errors.Is(err, os.ErrDeadlineExceeded):
		// After the header, a deadline is only how net/http wakes a Read of its own.
		x.lateHeader(err)
	default:
		x.cancel(peerError(err))
	}
	return n, err
}

func (x *exchange) lateHeader(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.phase == phaseHeader {
		x.fail(protocol.Errorf(protocol.RequestTimeout, "the request's header took too long").WithCause(err))
	}
}

var (
	openedOK = mustEncode(&protocol.Opened{})
	// answers hold an Opened and the first piece of a response: net/http writes at most 4 KiB at first.
	answers = sync.Pool{New: func() any { return new([8 << 10]byte) }}
)

func mustEncode(m protocol.Message) []byte {
	b, err := protocol.Append(nil, m)
	if err != nil {
		panic(err) // a constant message
	}
	return b
}

func (x *exchange) Write(p []byte) (int, error) {
	x.mu.Lock()
	first := false
	switch x.phase {
	case phaseHeader:
		x.fail(parseError(p))
		fallthrough
	case phaseFailed:
		x.mu.Unlock()
		return 0, net.ErrClosed
	case phaseHandler:
		first = !x.answered
		x.answered = true
	}
	x.mu.Unlock()

	var n int
	var err error
	if first {
		buf := answers.Get().(*[8 << 10]byte)
		b := append(append(buf[:0], openedOK...), p...)
		n, err = x.stream.Write(b)
		n = max(0, n-len(openedOK))
		answers.Put(buf)
	} else {
		n, err = x.stream.Write(p)
	}
	x.out.Add(int64(n))
	x.touch()
	if err != nil {
		e := peerError(err)
		x.mu.Lock()
		x.fail(e)
		x.mu.Unlock()
		x.cancel(e)
	}
	return n, err
}

// parseError is what net/http says of a request before it calls the handler.
func parseError(page []byte) *protocol.Error {
	line, _, _ := bytes.Cut(page, []byte("\r\n"))
	e := protocol.Errorf(protocol.BadRequest, "the request is malformed").WithCause(errors.New(string(line)))
	if bytes.HasPrefix(line, []byte("HTTP/1.1 431")) {
		e.Code, e.Sentence = protocol.HeadersTooLarge, "the request's header is too large"
	}
	return e
}

// Close tells serveHTTP that the server is done. It does not close the stream.
func (x *exchange) Close() error {
	x.doneOnce.Do(func() { close(x.done) })
	return nil
}

// CloseWrite ends an upgraded connection's direction to the peer. Otherwise it is how net/http says that it wants to
// close: after it, it only waits for a TCP stack to settle, and there is none.
func (x *exchange) CloseWrite() error {
	x.mu.Lock()
	upgraded := x.upgraded
	x.ended = upgraded
	x.mu.Unlock()
	if !upgraded {
		return x.Close()
	}
	_ = x.stream.SetReadDeadline(time.Now().Add(drainTimeout)) // fails only on a stream that is gone
	return x.stream.CloseWrite()
}

func (x *exchange) SetDeadline(t time.Time) error      { return x.stream.SetDeadline(t) }
func (x *exchange) SetReadDeadline(t time.Time) error  { return x.stream.SetReadDeadline(t) }
func (x *exchange) SetWriteDeadline(t time.Time) error { return x.stream.SetWriteDeadline(t) }
func (x *exchange) LocalAddr() net.Addr                { return addr{} }
func (x *exchange) RemoteAddr() net.Addr               { return addr{} }

var _ link.Duplex = (*exchange)(nil)

func (x *exchange) touch() { x.progress.Store(int64(time.Since(x.started))) }

// fail ends the exchange with e; the first reason stays. The caller holds mu.
func (x *exchange) fail(e *protocol.Error) {
	if x.failure == nil {
		x.failure = e
	}
	x.phase = phaseFailed
}

// failCall ends the exchange from within the handler: not another byte goes out.
func (x *exchange) failCall(e *protocol.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fail(e)
}

// interrupt ends the exchange from outside the handler: the backend's request is canceled, and a response that has
// begun is reset, which also wakes whoever waits in a Write. Before a response, the canceled request comes back to the
// handler, which knows whether it was sent.
func (x *exchange) interrupt(e *protocol.Error) {
	x.mu.Lock()
	answered := x.answered
	if answered {
		x.fail(e)
	}
	x.mu.Unlock()
	x.cancel(e)
	if answered {
		x.stream.Reset(uint16(e.Code))
	}
}

// retire takes the stream away from the server: it wakes a Read that waits, and lets none begin.
func (x *exchange) retire() {
	x.closed.Store(true)
	_ = x.stream.SetReadDeadline(time.Unix(1, 0)) // fails only on a stream that is gone, whose Read has returned
	x.readMu.Lock()
	defer x.readMu.Unlock()
}
