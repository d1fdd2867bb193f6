package dispatch

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// serveHTTP serves one exchange on the stream, and then ends the stream as it came out.
func (c *call) serveHTTP(ctx context.Context) {
	x := &exchange{call: c, br: readers.Get().(*bufio.Reader), bw: writers.Get().(*bufio.Writer)}
	x.br.Reset(x)
	x.bw.Reset(x)
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	defer x.cancel(nil)
	if b, ok := c.stream.(link.Breaker); ok { // a backend that reads nothing keeps everybody else from noticing
		b.OnBreak(func(err error) { x.cancel(peerError(err)) })
		defer b.OnBreak(nil)
	}
	x.run()
	x.retire()
	x.release()
	x.finish()
}

// run reads the request, and carries it and its response.
func (x *exchange) run() {
	defer x.recover()
	r, err := x.readRequest()
	if err != nil {
		x.fail(protocol.AsError(err))
		return
	}
	defer x.watchIdle(r)()
	x.upgrading = upgrade(r.Header) != ""
	out, err := x.outgoing(r)
	if err != nil {
		x.fail(protocol.AsError(err))
		return
	}
	resp, err := x.tunnel.backend.Exchange(out, func(status int, header http.Header) {
		if status != http.StatusContinue { // that is said when the transport begins to read the body
			_ = x.inform(status, header) // an error is kept by Write
		}
	})
	x.writeMu.Lock()
	x.final = true
	x.writeMu.Unlock()
	x.mu.Lock()
	x.report.Wait = time.Since(x.started)
	if err == nil {
		x.report.Status, x.report.Sent = resp.StatusCode, true
	}
	x.mu.Unlock()
	switch {
	case err != nil:
		x.fail(proxyError(err))
	case resp.StatusCode == http.StatusSwitchingProtocols:
		x.switchProtocols(r, resp)
	default:
		x.respond(r, resp)
	}
}

// recover keeps a panic inside its call.
func (x *exchange) recover() {
	if v := recover(); v != nil {
		x.fail(&protocol.Error{Code: protocol.Internal, Sentence: "internal error", Sent: true, Cause: panicError(v)})
	}
}

// quick is how long a backend may take before the stream is watched for a caller who goes away, and a header without
// its body is passed on: most answers are there by then, and leave in one piece.
const quick = 2 * time.Millisecond

// ask is called when the request has been read to its end, which is when the time for the answer begins. A caller may
// take its time to ask, and one that asks for ever (a stream of gRPC) need not be answered yet.
func (x *exchange) ask() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.asked && !x.over {
		x.clock = time.AfterFunc(quick, x.tick)
	}
	x.asked = true
}

// tick is called when the backend is not quick, and again when its time is up.
func (x *exchange) tick() {
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		return
	}
	if !x.watching {
		x.watching = true
		go x.watch(x.upgrading)
		if x.open.Timeout > 0 {
			x.clock.Reset(max(x.open.Timeout-quick, 0))
		}
		x.mu.Unlock()
		x.flushHeader()
		return
	}
	answering := x.report.Status != 0
	x.mu.Unlock()
	if !answering {
		x.interrupt(&protocol.Error{
			Code: protocol.BackendTimeout, Sentence: "the backend did not answer in time", Sent: true,
		})
	}
}

// finish ends this side's direction of the stream.
func (x *exchange) finish() {
	x.report.In, x.report.Out = x.in.Load(), x.out.Load()
	x.mu.Lock()
	failure, answered := x.failure, x.answered
	x.mu.Unlock()
	switch {
	case failure == nil:
		// A peer that has the whole response may have reset the stream by now, and need not hear of its end.
		if err := x.stream.CloseWrite(); errors.Is(err, link.ErrLost) {
			x.failed(peerError(err))
		}
	case answered:
		x.stream.Reset(uint16(failure.Code))
		x.failed(failure)
	default:
		x.refuse(failure)
	}
}

// endCause is why the exchange's context ended before its time, nil where it did not.
func endCause(ctx context.Context) *protocol.Error {
	if ctx.Err() == nil {
		return nil
	}
	return protocol.AsError(peerOr(context.Cause(ctx)))
}

// peerOr makes the end of the link's context, which carries no code, a lost link.
func peerOr(err error) error {
	if _, ok := errors.AsType[*protocol.Error](err); ok {
		return err
	}
	return peerError(err)
}

// streams reports whether a header says that what follows comes when it comes.
func streams(h http.Header) bool {
	t := h.Get("Content-Type")
	return strings.HasPrefix(t, "text/event-stream") || strings.HasPrefix(t, "application/grpc")
}
