package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/route"
)

// forward carries an HTTP call. It panics with http.ErrAbortHandler where the answer breaks off, so that the caller's
// server cuts the answer visibly.
func (c *call) forward(w http.ResponseWriter, r *http.Request) {
	t := c.decision.Tunnel
	if t.Body > 0 && r.ContentLength > t.Body {
		c.refuse(w, tooLarge(t.Body))
		return
	}
	control := http.NewResponseController(w)
	// HTTP/1.1 callers may send on while they receive; the other protocols always may.
	_ = control.EnableFullDuplex()
	ctx, stop := c.watchStillness(r, control)
	defer stop()
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = c.limitBody(control, r)
	}
	exchange := c.gateway.cfg.Router.Exchange(c.open(), true)
	defer exchange.Close()
	defer c.brokenOff(exchange)
	proxy := &httputil.ReverseProxy{
		Transport:      exchange,
		Rewrite:        c.rewrite,
		FlushInterval:  -1, // whoever waits for a byte gets it
		BufferPool:     &buffers,
		ErrorLog:       c.gateway.proxyLog,
		ModifyResponse: c.response,
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { c.failed(w, r, err) },
	}
	proxy.ServeHTTP(&answerWriter{w, c.still}, r)
	if c.code == protocol.OK {
		c.done = true
		c.log(slog.LevelDebug, "call carried")
	}
}

// brokenOff logs a call whose answer had begun and did not end.
func (c *call) brokenOff(exchange *route.Exchange) {
	if c.done {
		return
	}
	c.code = protocol.Canceled
	level := slog.LevelDebug
	err := exchange.Err()
	if c.still.ended() {
		err = errStill
	}
	if err != nil {
		c.code, level = protocol.AsError(err).Code, slog.LevelWarn
	}
	c.log(level, "call broke off", slog.Any("error", err))
}

// rewrite makes the request for the agent. ReverseProxy has removed the hop-by-hop headers by now, so that nothing we
// set can be named in Connection.
func (c *call) rewrite(pr *httputil.ProxyRequest) {
	h := pr.Out.Header
	strip(h, c.decision.Tunnel.ForwardToken)
	scheme := "https"
	if pr.In.TLS == nil {
		scheme = "http"
	}
	setForwarded(h, c.proof.Source.Addr(), pr.In.Host, scheme)
	h.Set("Fairlead-Call-Id", c.id)
	h.Set("Fairlead-Tunnel", string(c.decision.Tunnel.Name))
	if caller := c.decision.Principal.Caller; !caller.IsZero() {
		h.Set("Fairlead-Caller", caller.String())
	}
	c.trailers(pr)
}

// trailers passes the caller's trailers on: ReverseProxy's copy of the request has their names alone, since their
// values come with the end of the body.
func (c *call) trailers(pr *httputil.ProxyRequest) {
	if len(pr.In.Trailer) == 0 {
		pr.Out.Trailer = nil
		return
	}
	names := pr.In.Trailer.Clone()
	strip(names, false)
	pr.Out.Trailer = names
	if pr.Out.Body == nil {
		return
	}
	pr.Out.Body = &atEnd{ReadCloser: pr.Out.Body, end: func() {
		for name := range names {
			names[name] = pr.In.Trailer[name]
		}
	}}
}

// response makes the caller's answer.
func (c *call) response(res *http.Response) error {
	stripAnswer(res.Header)
	stripAnswer(res.Trailer)
	c.mark(res.Header)
	res.Header.Add("Proxy-Status", fmt.Sprintf(`fairlead; received-status=%d; call_id=%q`, res.StatusCode, c.id))
	if res.StatusCode == http.StatusSwitchingProtocols || strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		c.still.stop()
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = &atEnd{ReadCloser: res.Body, end: func() { stripAnswer(res.Trailer) }}
	}
	return nil
}

// failed answers a call that got no response.
func (c *call) failed(w http.ResponseWriter, r *http.Request, err error) {
	e := c.fault(r, err)
	if e == nil {
		panic(http.ErrAbortHandler)
	}
	c.refuse(w, e)
}

// fault says why there is no response; nil where nobody is left to hear it.
func (c *call) fault(r *http.Request, err error) *protocol.Error {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		e := tooLarge(large.Limit)
		e.Sent = true // a part of it was on its way
		return e
	}
	if c.late.Load() {
		return &protocol.Error{Code: protocol.RequestTimeout, Sentence: "the body came too slowly", Sent: true, Cause: err}
	}
	if c.still.ended() {
		return errStill
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	if _, ok := errors.AsType[*route.BodyError](err); ok {
		return &protocol.Error{Code: protocol.BadRequest, Sentence: "the body ended before its end", Sent: true, Cause: err}
	}
	// ReverseProxy's own: an answer that switches protocols unasked.
	return &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the backend broke the protocol", Sent: true, Cause: err}
}

func tooLarge(limit int64) *protocol.Error {
	return protocol.Errorf(protocol.BodyTooLarge, "a body of at most %d bytes is expected", limit)
}

// answerWriter filters the informational answers that ReverseProxy passes on by itself, and says that an answer moves.
type answerWriter struct {
	http.ResponseWriter
	still *stillness
}

func (w *answerWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.still.touch()
	return n, err
}

func (w *answerWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		stripAnswer(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// atEnd calls end once, before it passes io.EOF on.
type atEnd struct {
	io.ReadCloser
	end  func()
	done bool
}

func (r *atEnd) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF && !r.done {
		r.done = true
		r.end()
	}
	return n, err
}

// bufferPool lends ReverseProxy its copy buffers of 32 KiB.
type bufferPool struct{ pool sync.Pool }

var buffers = bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

func (b *bufferPool) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }
