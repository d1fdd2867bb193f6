package route

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// Exchange carries one HTTP call, for one RoundTrip. It is used by one goroutine.
type Exchange struct {
	// Informed, where given, hears of each informational response (1xx) but 101, in RoundTrip's goroutine.
	Informed func(status int, header http.Header)

	router *Router
	open   *protocol.Open
	repeat bool
	trip   *trip // of the last try
}

// Exchange makes the http.RoundTripper of one call; o.Timeout is how long the response header may take (zero: 30 s).
// repeat allows a call that a backend may have seen to be tried again, where its method makes that safe; what it
// certainly has not seen is tried again in any case.
func (r *Router) Exchange(o *protocol.Open, repeat bool) *Exchange {
	return &Exchange{router: r, open: o, repeat: repeat}
}

// Link returns the link that the call was last tried on, nil where there was none.
func (e *Exchange) Link() *registry.Link {
	if e.trip != nil {
		return e.trip.link
	}
	return nil
}

// Err says what broke the stream after the response had begun; nil where nothing did.
func (e *Exchange) Err() error {
	if e.trip != nil && e.trip.failure() != nil {
		return e.trip.fault(nil)
	}
	return nil
}

// Buffered is how many bytes of the response's body, with their framing, can be read without waiting.
func (e *Exchange) Buffered() int {
	if e.trip == nil || e.trip.br == nil {
		return 0
	}
	return e.trip.br.Buffered()
}

// Close releases the stream, once nobody reads the response any more. Later calls do nothing.
func (e *Exchange) Close() {
	if e.trip != nil {
		_ = e.trip.Close() // a stream's Close has nothing to say that matters here
	}
}

// RoundTrip sends the request and returns the response, whose body belongs to whoever called, and is read by the
// goroutine that calls Close. Its errors are *protocol.Error, *BodyError, or the context's.
func (e *Exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	if !valid(req) {
		return nil, notHTTP(errInvalid)
	}
	ctx, body, s := req.Context(), newBody(req.Body, req.ContentLength), e.router.search(e.open.Tunnel)
	for l := s.next(ctx); l != nil; l = s.next(ctx) {
		reader, ok := body.reader()
		if !ok {
			break
		}
		res, err := e.try(req, l, reader)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		fault := protocol.AsError(err)
		if broken := body.failure(); broken != nil && !e.refused() {
			return nil, broken
		}
		e.router.failed(e.open, l, fault)
		s.failed(l, fault)
		if fault.Sent && !e.mayRepeat(req.Method, body, fault) {
			break
		}
	}
	return nil, s.fault()
}

// try sends the request on one link. It leaves its direction of the stream open until the answer is whole, so that the
// agent notices a caller who goes away while the backend still thinks; the request says itself where it ends.
func (e *Exchange) try(req *http.Request, l *registry.Link, body *bodyReader) (*http.Response, error) {
	ctx := req.Context()
	t := &trip{ctx: ctx, timeout: e.open.Timeout, body: body, informed: e.Informed}
	if t.timeout <= 0 {
		t.timeout = defaultTimeout
	}
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(t)
	frame, err := appendOpen(bw.AvailableBuffer(), e.open, l)
	if err != nil {
		putWriter(bw)
		return nil, err
	}
	stream, err := e.router.stream(ctx, l)
	if err != nil {
		putWriter(bw)
		return nil, err
	}
	t.begin(l, stream)
	t.unwatch = context.AfterFunc(ctx, func() { t.Reset(link.CodeCanceled) })
	e.trip = t
	res, err := t.roundTrip(frame, bw, t.outgoing(req))
	if err != nil {
		_ = t.Close()
		return nil, t.answerFault(err)
	}
	return res, nil
}

// outgoing is the request as this try sends it. A small body that is there comes along as bytes, and is the trip's no
// more.
func (t *trip) outgoing(req *http.Request) *http.Request {
	if t.body == nil {
		return req
	}
	out := new(http.Request)
	*out = *req
	switch {
	case httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue"):
		wanted := make(chan struct{})
		t.wanted = wanted
		out.Body = &held{t.body, wanted}
		return out
	case req.ContentLength > 0 && req.ContentLength <= smallBody:
		if b, ok := t.body.gather(req.ContentLength, gatherTimeout); ok {
			t.body, out.Body = nil, io.NopCloser(bytes.NewReader(b))
			return out
		}
	case req.ContentLength < 0 && len(req.TransferEncoding) == 0 && (req.Method == http.MethodGet || req.Method == http.MethodHead):
		// HTTP/3 says only with the stream's end that there is no body.
		if _, ok := t.body.gather(0, gatherTimeout); ok {
			t.body, out.Body, out.ContentLength = nil, nil, 0
			return out
		}
	}
	out.Body = t.body
	return out
}

// refused reports whether the last try ended in a coded refusal by the agent.
func (e *Exchange) refused() bool {
	if e.trip == nil {
		return false
	}
	_, ok := refused(e.trip.failure())
	return ok
}

// mayRepeat says whether a call that a backend may have seen may be tried again.
func (e *Exchange) mayRepeat(method string, body *body, fault *protocol.Error) bool {
	if !e.repeat || fault.Code != protocol.LinkLost {
		return false
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	case http.MethodPut, http.MethodDelete:
		return body.whole()
	}
	return false
}
