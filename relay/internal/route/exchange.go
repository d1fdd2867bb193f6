package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// Exchange carries one HTTP call, for one RoundTrip.
type Exchange struct {
	router *Router
	open   *protocol.Open
	repeat bool
	conn   atomic.Pointer[conn] // of the last try
}

// Exchange makes the http.RoundTripper of one call; o.Timeout is how long the response header may take (zero: 30 s).
// repeat allows a call that a backend may have seen to be tried again, where its method makes that safe; what it
// certainly has not seen is tried again in any case.
func (r *Router) Exchange(o *protocol.Open, repeat bool) *Exchange {
	return &Exchange{router: r, open: o, repeat: repeat}
}

// Link returns the link that the call was last tried on, nil where there was none.
func (e *Exchange) Link() *registry.Link {
	if c := e.conn.Load(); c != nil {
		return c.link
	}
	return nil
}

// Err says what broke the stream after the response had begun; nil where nothing did.
func (e *Exchange) Err() error {
	if c := e.conn.Load(); c != nil && c.failure() != nil {
		return c.fault(nil)
	}
	return nil
}

// Close releases the stream, once nobody reads the response any more. Later calls do nothing.
func (e *Exchange) Close() {
	if c := e.conn.Load(); c != nil {
		_ = c.Close() // a stream's Close has nothing to say that matters here
	}
}

// RoundTrip sends the request and returns the response, whose body belongs to whoever called. Its errors are
// *protocol.Error, *BodyError, or the context's.
func (e *Exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	frame, err := protocol.Append(nil, e.open)
	if err != nil {
		return nil, tooLarge(err)
	}
	ctx, body, s := req.Context(), newBody(req.Body), e.router.search(e.open.Tunnel)
	for l := s.next(); l != nil; l = s.next() {
		reader, ok := body.reader()
		if !ok {
			break
		}
		res, err := e.try(req, l, frame, reader, len(s.tried))
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
	return nil, s.last
}

// try sends the request on one link. It leaves its direction of the stream open until the answer is whole, so that the
// agent notices a caller who goes away while the backend still thinks; the request says itself where it ends.
func (e *Exchange) try(req *http.Request, l *registry.Link, frame []byte, body *bodyReader, number int) (*http.Response, error) {
	ctx := req.Context()
	stream, err := e.router.stream(ctx, l)
	if err != nil {
		return nil, err
	}
	c := newConn(l, stream, append([]byte(nil), frame...))
	c.over = body.abandon
	e.conn.Store(c)

	ctx = context.WithValue(ctx, streamKey{}, c)
	out := req.WithContext(ctx)
	out.GetBody = nil
	if !body.body.empty() {
		out.Body = body
	}
	u := *req.URL
	// A host of its own for each try: no queue of net/http's can hand this stream to another request.
	u.Scheme, u.Host = "http", fmt.Sprintf("%s-%d", e.open.CallID, number)
	out.URL = &u
	res, err := e.router.transport(e.open.Timeout).RoundTrip(out)
	if err != nil {
		_ = c.Close() // whether or not the transport took it
		return nil, answerFault(c, err)
	}
	return res, nil
}

// refused reports whether the last try ended in a coded refusal by the agent.
func (e *Exchange) refused() bool {
	c := e.conn.Load()
	if c == nil {
		return false
	}
	_, ok := errors.AsType[*protocol.Error](c.failure())
	return ok
}

// answerFault says why there is no response.
func answerFault(c *conn, err error) error {
	if c.failure() != nil {
		return c.fault(err)
	}
	if !c.wrote.Load() {
		return protocol.Errorf(protocol.BadRequest, "the request cannot be carried as HTTP/1.1").WithCause(err)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return &protocol.Error{Code: protocol.BackendTimeout, Sentence: "the backend did not answer in time", Sent: true, Cause: err}
	}
	return &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the backend's answer is no HTTP", Sent: true, Cause: err}
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

type streamKey struct{}

// dialStream takes the stream that try has opened; a Transport keeps a context's values for its dial.
func dialStream(ctx context.Context, _, _ string) (net.Conn, error) {
	c, ok := ctx.Value(streamKey{}).(*conn)
	if !ok {
		return nil, errors.New("expected a stream in the request's context")
	}
	return c, nil
}

var _ link.Stream = (*conn)(nil)
