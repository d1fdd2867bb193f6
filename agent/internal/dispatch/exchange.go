package dispatch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// Buffers: a usual header fits into one, a small response with its header into the other.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 8<<10) }}
)

// exchange is one HTTP exchange on a stream, behind its Open. It puts Opened in front of the first byte of a response,
// and cancels the call when the stream breaks.
type exchange struct {
	*call
	ctx    context.Context
	cancel context.CancelCauseFunc

	in, out  atomic.Int64
	progress atomic.Int64 // time of the last byte either way, in nanoseconds since started

	upgrading bool // the request asks for an upgrade

	// readMu guards: the request's direction. It is held during a Read of the stream.
	readMu sync.Mutex
	br     *bufio.Reader
	room   int64 // what the request's header may still take
	ended  error // what the last Read of the stream ended with
	closed bool  // no Read begins any more

	// writeMu guards: the response's direction. It is held during a Write to the stream.
	writeMu sync.Mutex
	bw      *bufio.Writer // nil once the call is over
	last    bool          // what is in it now is the end of the response
	begun   bool          // Opened is in it, or was
	final   bool          // no informational response is passed on any more

	// mu guards: what follows. It may be taken while one of the others is held, not the other way round.
	mu       sync.Mutex
	failure  *protocol.Error
	answered bool // Opened is on the wire
	over     bool // nobody waits for the backend any more
	asked    bool // the request was read to its end
	watching bool // and somebody reads behind it
	clock    *time.Timer
	idle     *time.Timer
}

// Read reads from the peer. A reset or a lost link cancels the call; the peer's end is an end and nothing more. The
// caller holds readMu.
func (x *exchange) Read(p []byte) (int, error) {
	if x.room <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := x.stream.Read(p[:min(int64(len(p)), x.room)])
	x.ended = err
	if n > 0 {
		x.room -= int64(n)
		x.in.Add(int64(n))
		x.touch()
	}
	// Past a deadline nothing is broken: it is how the header is bounded, and how a Read is woken.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		x.cancel(peerError(err))
	}
	return n, err
}

var errHeaderTooLarge = errors.New("expected a smaller header")

// readRequest reads the request's header, and judges it.
func (x *exchange) readRequest() (*http.Request, error) {
	x.readMu.Lock()
	defer x.readMu.Unlock()
	_ = x.stream.SetReadDeadline(time.Now().Add(x.d.cfg.HeaderTimeout)) // fails only where the read fails too
	x.room = int64(x.d.cfg.MaxHeaderBytes) + int64(x.br.Size())
	r, err := http.ReadRequest(x.br)
	if err != nil {
		return nil, x.headerError(err)
	}
	x.room = math.MaxInt64
	_ = x.stream.SetReadDeadline(time.Time{})
	if err := checkForm(r); err != nil {
		return nil, malformed(err)
	}
	if err := guard.SameRequest(x.open, r); err != nil {
		return nil, err
	}
	return r, checkUpgrade(r.Header, x.tunnel.backend.Address())
}

// headerError is why there is no request. The codec does not pass every error of a Read on.
func (x *exchange) headerError(err error) error {
	switch cause := endCause(x.ctx); {
	case cause != nil:
		return cause
	case errors.Is(x.ended, os.ErrDeadlineExceeded):
		return protocol.Errorf(protocol.RequestTimeout, "the request's header took too long").WithCause(err)
	case x.room <= 0:
		return protocol.Errorf(protocol.HeadersTooLarge, "the request's header is too large").WithCause(err)
	case errors.Is(x.ended, io.EOF):
		return protocol.Errorf(protocol.BadRequest, "the request ended within its header").WithCause(err)
	}
	return malformed(err)
}

func malformed(cause error) error {
	return protocol.Errorf(protocol.BadRequest, "the request is malformed").WithCause(cause)
}

// checkForm refuses what http.ReadRequest takes and no server should: the checks of net/http's own.
func checkForm(r *http.Request) error {
	expect := r.Header["Expect"]
	switch {
	case r.ProtoMajor != 1:
		return fmt.Errorf("expected HTTP/1, got %q", r.Proto)
	case r.Host == "" && r.ProtoAtLeast(1, 1):
		return errors.New("expected a host")
	case !httpguts.ValidHostHeader(r.Host):
		return errors.New("expected a valid host")
	case len(expect) > 0 && !expectsContinue(r):
		return errors.New("expected no other expectation than 100-continue")
	}
	for name, vv := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return errors.New("expected valid header names")
		}
		for _, v := range vv {
			if !httpguts.ValidHeaderFieldValue(v) {
				return errors.New("expected valid header values")
			}
		}
	}
	return nil
}

func expectsContinue(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
}

// requestBody is the request's body as the backend's transport reads it, in a goroutine that may outlive the call.
type requestBody struct {
	x    *exchange
	src  io.ReadCloser
	hold bool // the caller waits for 100 Continue, which is said when the backend begins to read
}

func (b *requestBody) Read(p []byte) (int, error) {
	x := b.x
	if b.hold {
		b.hold = false
		if err := x.inform(http.StatusContinue, nil); err != nil {
			return 0, err
		}
	}
	x.readMu.Lock()
	defer x.readMu.Unlock()
	if x.closed {
		return 0, net.ErrClosed
	}
	n, err := b.src.Read(p)
	if err == io.EOF {
		x.ask()
	}
	return n, err
}

// Close does nothing: what is left of the request nobody waits for.
func (b *requestBody) Close() error { return nil }

// watch reads behind the request, so that a caller who goes away is noticed. Before an upgrade it takes nothing.
func (x *exchange) watch(upgrade bool) {
	x.readMu.Lock()
	defer x.readMu.Unlock()
	for n := 0; n < drainBytes && !x.closed; {
		if _, err := x.br.Peek(1); err != nil || upgrade {
			return // Read has canceled the call where that is due
		}
		k, _ := x.br.Discard(x.br.Buffered()) // they are there
		n += k
	}
}

// retire takes the stream's reading end away from whoever has it: it wakes a Read that waits, and lets none begin.
func (x *exchange) retire() {
	x.mu.Lock()
	x.over = true
	if x.clock != nil {
		x.clock.Stop()
	}
	busy := x.watching || !x.asked
	x.mu.Unlock()
	if busy {
		_ = x.stream.SetReadDeadline(time.Unix(1, 0)) // fails only on a stream that is gone, whose Read has returned
	}
	x.readMu.Lock()
	x.closed = true
	x.readMu.Unlock()
}

// release gives back what the exchange holds, after retire.
func (x *exchange) release() {
	x.br.Reset(nil)
	readers.Put(x.br)
	x.writeMu.Lock()
	defer x.writeMu.Unlock()
	x.bw.Reset(nil)
	writers.Put(x.bw)
	x.bw = nil
}

// Write writes to the stream what was gathered in bw. The caller holds writeMu.
func (x *exchange) Write(p []byte) (int, error) {
	x.mu.Lock()
	failed, first := x.failure != nil, !x.answered
	x.answered = x.answered || !failed
	x.mu.Unlock()
	if failed {
		return 0, net.ErrClosed
	}
	write := x.stream.Write
	if x.last && x.bw.Buffered() == len(p) {
		write = func(p []byte) (int, error) { return link.Finish(x.stream, p) }
	}
	n, err := write(p)
	carried := n
	if first {
		carried = max(0, n-len(openedOK))
	}
	x.out.Add(int64(carried))
	x.touch()
	if err != nil {
		e := peerError(err)
		x.fail(e)
		x.cancel(e)
	}
	return n, err
}

var openedOK = mustEncode(&protocol.Opened{})

func mustEncode(m protocol.Message) []byte {
	b, err := protocol.Append(nil, m)
	if err != nil {
		panic(err) // a constant message
	}
	return b
}

func (x *exchange) touch() { x.progress.Store(int64(time.Since(x.started))) }

// fail ends the exchange with e; the first reason stays. Not another byte of a response goes out.
func (x *exchange) fail(e *protocol.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failure == nil {
		x.failure = e
	}
}

// interrupt ends the exchange from outside its goroutine: the backend's request is canceled, and a response that has
// begun is reset, which also wakes whoever waits in a Write. Before a response, the canceled request comes back to the
// exchange's goroutine, which knows whether it was sent.
func (x *exchange) interrupt(e *protocol.Error) {
	x.mu.Lock()
	answered := x.answered
	if answered && x.failure == nil {
		x.failure = e
	}
	x.mu.Unlock()
	x.cancel(e)
	if answered {
		x.stream.Reset(uint16(e.Code))
	}
}
