package route

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

const (
	// maxHeader bounds a response's header, and all that comes before it, in bytes.
	maxHeader = 256 << 10
	// continueTimeout is how long a body with Expect: 100-continue waits for a backend that says nothing.
	continueTimeout = time.Second
	// A body of at most smallBody bytes that is there within gatherTimeout leaves with the request's header.
	smallBody     = 16 << 10
	gatherTimeout = 200 * time.Microsecond
	// endTimeout is how long an agent may take to end its direction behind a response.
	endTimeout = 5 * time.Second
)

// Buffers of 4 KiB: a usual header fits, and what is larger passes them by.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}
	// copyBuffers are for bodies of known length.
	copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}
)

// trip is one try of an HTTP call on its stream. The goroutine that made it reads the response; where the request has
// a body, one more writes it, since a response may begin, and end, before the request has.
//
// Where the exchange is whole both ways the stream is ended both ways; otherwise it is reset.
type trip struct {
	conn
	ctx      context.Context
	timeout  time.Duration   // for the response's header, from the request's end on
	unwatch  func() bool     // ends the watch on ctx
	body     *bodyReader     // nil: none
	wanted   chan<- struct{} // closed when the backend wants the body; nil where nobody asks it
	br       *bufio.Reader   // of the response; nil once the trip is over
	room     int64           // what the response's header may still take
	whole    bool            // the peer's direction has ended
	asked    atomic.Bool     // the request is on the stream to its end
	informed func(status int, header http.Header)

	// mu guards:
	mu       sync.Mutex
	answered bool // the response's header is there: its clock is not started any more
}

// roundTrip writes the call's Open and req, and reads the response's header. bw is the trip's to give back.
func (t *trip) roundTrip(frame []byte, bw *bufio.Writer, req *http.Request) (*http.Response, error) {
	_, err := bw.Write(frame)
	if err == nil && t.body != nil {
		go t.sendBody(bw, req)
		return t.response(req)
	}
	if err == nil {
		err = t.send(bw, req)
	}
	putWriter(bw)
	if err != nil && !t.wrote.Load() {
		return nil, err
	}
	// A Write that has failed is not the last word: the agent may have refused before, and that can be read.
	return t.response(req)
}

var errInvalid = errors.New("expected a method and header fields that HTTP/1.1 can carry")

// notHTTP is a request that the codec cannot write.
func notHTTP(cause error) error {
	return protocol.Errorf(protocol.BadRequest, "the request cannot be carried as HTTP/1.1").WithCause(cause)
}

// valid refuses what the codec would write in another way, or leave out.
func valid(req *http.Request) bool {
	return httpguts.ValidHeaderFieldName(req.Method) && validFields(req.Header) && validFields(req.Trailer)
}

func validFields(h http.Header) bool {
	for name, vv := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range vv {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}

// send writes the request behind what bw holds already: in one Write, where it is small.
func (t *trip) send(bw *bufio.Writer, req *http.Request) error {
	err := req.Write(bw)
	if err == nil {
		err = bw.Flush()
	}
	if err == nil {
		t.asked.Store(true)
	}
	t.startClock()
	return err
}

// sendBody sends a request with a body.
func (t *trip) sendBody(bw *bufio.Writer, req *http.Request) {
	defer putWriter(bw)
	err := t.send(bw, req)
	if err == nil || t.failure() != nil {
		return
	}
	// The codec closes the body also where that has failed: over alone does not say that nobody waits.
	if t.body.isOver() && t.body.body.failure() == nil {
		return
	}
	// Half a request is none: the caller's body broke off, or is not what was announced.
	t.Reset(link.CodeCanceled)
}

func putWriter(bw *bufio.Writer) {
	bw.Reset(nil)
	writers.Put(bw)
}

// ReadFrom is what net/http writes a body of known length with: each piece at once.
func (t *trip) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{t}, struct{ io.Reader }{r}, buf[:])
}

// startClock bounds the wait for the response's header, once the request is on its way.
func (t *trip) startClock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.answered {
		_ = t.SetReadDeadline(time.Now().Add(t.timeout)) // fails only on a stream that is gone
	}
}

func (t *trip) stopClock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered = true
	_ = t.SetReadDeadline(time.Time{})
}

var errHeaderTooLarge = fmt.Errorf("expected a response header of at most %d bytes", maxHeader)

// openedOK is what an agent says that has reached its backend.
var openedOK = func() []byte {
	b, err := protocol.Append(nil, &protocol.Opened{})
	if err != nil {
		panic(err) // a constant message
	}
	return b
}()

// Read reads the response, and counts its header.
func (t *trip) Read(p []byte) (int, error) {
	if t.room <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := t.conn.Read(p[:min(int64(len(p)), t.room)])
	t.room -= int64(n)
	t.whole = errors.Is(err, io.EOF)
	return n, err
}

// response reads the agent's word and the response's header; informational ones go to informed.
func (t *trip) response(req *http.Request) (*http.Response, error) {
	t.room = maxHeader
	t.br = readers.Get().(*bufio.Reader)
	t.br.Reset(t)
	if b, err := t.br.Peek(len(openedOK)); err == nil && bytes.Equal(b, openedOK) {
		_, _ = t.br.Discard(len(openedOK)) // they are there
	} else if err := t.readOpened(t.br); err != nil { // a refusal, or one with fields; or the same error again
		return nil, err
	}
	for {
		res, err := http.ReadResponse(t.br, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			t.stopClock()
			t.room = math.MaxInt64
			return t.take(res), nil
		}
		if res.StatusCode == http.StatusContinue && t.wanted != nil {
			close(t.wanted)
			t.wanted = nil
		}
		if t.informed != nil {
			t.informed(res.StatusCode, res.Header)
			t.room = maxHeader // whoever hears of each one bounds them
		}
	}
}

// take gives the final response the body that ends the trip with it.
func (t *trip) take(res *http.Response) *http.Response {
	if t.wanted != nil { // a backend that answers without having asked for the body does not want it
		t.body.abandon()
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols && switches(res.Header):
		res.Body = t.upgrade()
	case res.Body == http.NoBody:
		t.end()
	default:
		res.Body = &answer{body: res.Body, trip: t}
	}
	return res
}

func switches(h http.Header) bool {
	return h.Get("Upgrade") != "" && httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade")
}

// end ends the trip once the response was read to its end. The caller does not wait for what the link has to do.
func (t *trip) end() {
	clean := t.asked.Load() && t.br.Buffered() == 0
	t.release()
	if !clean {
		_ = t.Close() // a stream's Close has nothing to say that matters here
		return
	}
	t.leave()
	if t.whole = t.whole || t.peerEnded(); t.whole {
		t.settle() // there is nothing to wait for
		return
	}
	go t.settle()
}

// settle ends a whole exchange's stream both ways: it reads the peer's end, for a while, without which a Close would be
// a reset. Whatever else comes is reset.
func (t *trip) settle() {
	if f, ok := t.Stream.(link.Finisher); ok && t.whole {
		_ = f.CloseSoon() // the agent has answered, and waits for nothing
		_ = t.Stream.Close()
		return
	}
	if t.CloseWrite() == nil && !t.whole {
		var b [1]byte
		_ = t.SetReadDeadline(time.Now().Add(endTimeout)) // fails only on a stream that is gone
		_, _ = t.Stream.Read(b[:])
	}
	_ = t.Stream.Close()
}

// release gives back what the trip holds, and ends the watch on its context.
func (t *trip) release() {
	t.unwatch()
	if t.br != nil {
		putReader(t.br)
		t.br = nil
	}
}

func putReader(br *bufio.Reader) {
	br.Reset(nil)
	readers.Put(br)
}

// Close ends the trip wherever it is; the goroutine that reads the response calls it. Later calls do nothing, nor does
// one after end.
func (t *trip) Close() error {
	if t.ended.Load() {
		return nil
	}
	t.release()
	t.leave()
	return t.Stream.Close()
}

// Reset may be called by any goroutine. The trip's own still calls Close.
func (t *trip) Reset(code uint16) {
	t.leave()
	t.Stream.Reset(code)
}

// leave counts the call out, and lets go of the caller's body.
func (t *trip) leave() {
	t.conn.leave()
	if t.body != nil {
		t.body.abandon()
	}
}

// answer is the body of a final response. It is used by one goroutine.
type answer struct {
	body io.Reader
	trip *trip
	err  error // what it ended with
}

func (a *answer) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	n, err := a.body.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		a.trip.end()
	case a.trip.ctx.Err() != nil:
		err = context.Cause(a.trip.ctx)
	}
	a.err = err
	return n, err
}

// Close gives up what was not read.
func (a *answer) Close() error {
	if a.err == nil {
		a.err = http.ErrBodyReadAfterClose
	}
	return a.trip.Close()
}

// upgraded is the stream behind a 101, both ways. Its methods are those of net.Conn, and safe as they are there.
type upgraded struct {
	*trip
	early *bufio.Reader // what was read with the header; nil once it was read
}

func (t *trip) upgrade() io.ReadWriteCloser {
	u := &upgraded{trip: t}
	if t.br.Buffered() > 0 {
		u.early = t.br // not to be lent again: whoever copies may still read when the trip is over
	} else {
		putReader(t.br)
	}
	t.br = nil
	return u
}

func (u *upgraded) Read(p []byte) (int, error) {
	if u.early == nil {
		return u.conn.Read(p)
	}
	n, err := u.early.Read(p[:min(len(p), u.early.Buffered())])
	if u.early.Buffered() == 0 {
		u.early = nil
	}
	return n, err
}

// answerFault says why there is no response.
func (t *trip) answerFault(err error) error {
	if t.failure() != nil {
		return t.fault(err)
	}
	if !t.wrote.Load() {
		return notHTTP(err)
	}
	return &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the backend's answer is no HTTP", Sent: true, Cause: err}
}

// held is a body that waits until the backend wants it, or has said nothing for a time.
type held struct {
	*bodyReader
	wanted <-chan struct{} // nil once it was waited for
}

func (h *held) Read(p []byte) (int, error) {
	if h.wanted != nil {
		clock := time.NewTimer(continueTimeout)
		defer clock.Stop()
		select {
		case <-h.wanted:
		case <-clock.C:
		case <-h.over: // and bodyReader says so
		}
		h.wanted = nil
	}
	return h.bodyReader.Read(p)
}
