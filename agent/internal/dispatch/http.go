package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// exchangeKey finds the *exchange in a request's context.
type exchangeKey struct{}

// exchangeContext is the context of a call: it ends with the call, and holds what net/http and the proxy look for.
type exchangeContext struct {
	context.Context
	x *exchange
}

func (c exchangeContext) Value(key any) any {
	switch key {
	case exchangeKey{}:
		return c.x
	case http.ServerContextKey:
		// The proxy panics on a response that breaks off only where it finds this; otherwise it would end it cleanly.
		return c.x.d.server
	}
	return c.Context.Value(key)
}

func (d *Dispatcher) newServer() *http.Server {
	s := &http.Server{
		Handler:                      http.HandlerFunc(d.handle),
		ReadHeaderTimeout:            d.cfg.HeaderTimeout,
		MaxHeaderBytes:               d.cfg.MaxHeaderBytes,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like every target that is no path
		ErrorLog:                     slog.NewLogLogger(d.cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, exchangeKey{}, c)
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				d.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				d.conns.Done()
			}
		},
	}
	s.SetKeepAlivesEnabled(false)
	return s
}

// serveHTTP lets net/http serve one exchange on the stream, and then ends the stream as it came out.
func (c *call) serveHTTP(ctx context.Context) {
	x := &exchange{call: c, done: make(chan struct{}), handled: make(chan struct{})}
	inner, cancel := context.WithCancelCause(ctx)
	x.cancel = cancel
	x.ctx = exchangeContext{inner, x}
	defer cancel(nil)

	if !c.d.listener.hand(ctx, x) {
		c.refuse(protocol.Errorf(protocol.Draining, "the agent is ending"))
		return
	}
	<-x.done
	x.mu.Lock()
	began := x.began
	x.mu.Unlock()
	if began {
		<-x.handled // an upgraded connection is closed before its handler returns
	}
	x.retire()
	x.finish()
}

// finish ends this side's direction of the stream.
func (x *exchange) finish() {
	x.report.In, x.report.Out = x.in.Load(), x.out.Load()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failure == nil {
		x.failure = x.incomplete()
	}
	switch {
	case x.failure == nil:
		// A peer that has the whole response may have reset the stream by now, and need not hear of its end.
		if err := x.stream.CloseWrite(); errors.Is(err, link.ErrLost) && !x.ended {
			x.failed(peerError(err))
		}
	case x.answered:
		x.stream.Reset(uint16(x.failure.Code))
		x.failed(x.failure)
	default:
		x.refuse(x.failure)
	}
}

// incomplete says why an exchange that reported no failure did not come to its end either; nil where it did. A peer
// that resets the stream once it has the whole response does no harm.
func (x *exchange) incomplete() *protocol.Error {
	cause := endCause(x.ctx)
	switch {
	case x.upgraded && x.ended, !x.upgraded && x.complete:
		return nil
	case cause != nil:
		return cause
	case x.upgraded:
		return &protocol.Error{
			Code: protocol.BackendProtocol, Sentence: "the upgraded connection to the backend broke off", Sent: true,
		}
	}
	return protocol.Errorf(protocol.BadRequest, "the request ended within its header")
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

// handle is called by the server once the request's header is read.
func (d *Dispatcher) handle(w http.ResponseWriter, r *http.Request) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	x.mu.Lock()
	x.began = true
	if x.phase == phaseHeader {
		x.phase = phaseHandler
	}
	x.mu.Unlock()
	defer close(x.handled)
	// What is left of the request is not waited for: net/http would, before it lets the stream go.
	defer x.closed.Store(true)
	defer x.recover()

	if err := x.check(r); err != nil {
		x.failCall(protocol.AsError(err))
		return
	}
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 always can
	stop := x.limit(r)
	defer stop()
	rw := &responseWriter{ResponseWriter: w, x: x, length: -1}
	d.proxy.ServeHTTP(rw, r.WithContext(x.ctx))
	x.mu.Lock()
	x.complete = x.failure == nil
	x.mu.Unlock()
}

// recover keeps a panic inside its call. The proxy panics on purpose when a response breaks off in its body.
func (x *exchange) recover() {
	v := recover()
	if v == nil {
		return
	}
	e := &protocol.Error{Code: protocol.Internal, Sentence: "internal error", Sent: true, Cause: panicError(v)}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		e = &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the response broke off", Sent: true}
	}
	x.failCall(e)
}

// check is the guard's second half, and what no HTTP tunnel carries.
func (x *exchange) check(r *http.Request) error {
	if err := guard.SameRequest(x.open, r); err != nil {
		return err
	}
	return checkUpgrade(r.Header, x.tunnel.backend.Address())
}

// copyBuffers are the proxy's.
type copyBuffers struct{ pool sync.Pool }

const copyBuffer = 32 << 10

func (b *copyBuffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return buf[:]
	}
	return make([]byte, copyBuffer)
}

func (b *copyBuffers) Put(buf []byte) { b.pool.Put((*[copyBuffer]byte)(buf)) }

func (d *Dispatcher) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     roundTripper{},
		FlushInterval: -1,
		BufferPool:    new(copyBuffers),
		ErrorLog:      slog.NewLogLogger(d.cfg.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			x := r.Context().Value(exchangeKey{}).(*exchange)
			x.failCall(proxyError(err))
		},
	}
}
