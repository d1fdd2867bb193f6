package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
)

// maxStale is how many dead connections of the pool one request may meet before it is given up.
const maxStale = 3

// RoundTrip sends one request to the backend, wherever req.URL points, and returns the response's header with a body
// that streams. The request's Host header is sent as it is. An error is a *protocol.Error, whose Sent says whether
// the backend may have seen the request.
//
// net/http would repeat a request without a body, and a POST with an Idempotency-Key, on a new connection when a
// kept-alive one breaks, though the first may have been carried out. Repeating is the relay's decision: here a
// request is repeated only when not one byte of it was sent.
func (b *Backend) RoundTrip(req *http.Request) (*http.Response, error) {
	return b.Exchange(req, nil)
}

// Exchange is RoundTrip, with informed (which may be nil) told of each informational response (1xx) but 101, in
// a goroutine that may be another one and outlive the call.
func (b *Backend) Exchange(req *http.Request, informed func(status int, header http.Header)) (*http.Response, error) {
	t := b.main
	switch {
	case req.Header.Get("Upgrade") != "":
		t = b.upgrade
	case b.pool != nil:
		return b.direct(req, informed)
	}
	u := *req.URL
	u.Scheme, u.Host = "http", "backend"
	if b.addr.TLS() {
		u.Scheme = "https"
	}
	for tries := 0; ; tries++ {
		a := &attempt{h2: b.addr.scheme == "h2c"}
		out := req.WithContext(httptrace.WithClientTrace(req.Context(), a.trace(informed)))
		out.URL = &u
		body := b.guardBody(out)
		resp, err := t.RoundTrip(out)
		if err == nil && a.foreign.Load() {
			resp.Body.Close()
			err = errForeign
		}
		if err == nil {
			return resp, nil
		}
		_ = body.Close() // a writer that comes late takes nothing from the next try
		if a.stale() && !body.touched() && tries < maxStale && req.Context().Err() == nil {
			continue
		}
		if body.failed() != nil && req.Context().Err() == nil {
			return nil, bodyError(body.failed(), a.sent())
		}
		return nil, classify(req.Context(), err, a.sent())
	}
}

// guardBody gives the request a body, or spells its header, such that net/http takes it for one it cannot repeat.
// HTTP/2 repeats only what the server has said it did not process; there a request keeps its missing body.
func (b *Backend) guardBody(req *http.Request) *requestBody {
	body := &requestBody{}
	switch {
	case req.Body != nil && req.Body != http.NoBody:
		body.src = req.Body
		req.Body = body
		return body
	case b.addr.scheme == "h2c":
		return body
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		// "identity" keeps net/http from framing the empty body, and from probing it for 200 ms.
		req.Body, req.TransferEncoding = emptyBody{}, []string{"identity"}
		return body
	}
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := req.Header[key]; ok {
			// Header names do not depend on case, but net/http looks for this spelling.
			req.Header = req.Header.Clone()
			delete(req.Header, key)
			req.Header[strings.ToLower(key)] = v
		}
	}
	return body
}

// errForeign is a response that had come before its request was sent. net/http puts a connection among the idle ones
// before it looks whether more has come than the response, and gives that to whoever takes it in this moment.
var errForeign = errors.New("a response came before its request")

// attempt watches one try of net/http: which connection it got, and whether anything was written to it.
type attempt struct {
	conn    *countedConn
	before  int64
	got     bool
	reused  bool
	h2      bool        // the connection is shared, and says itself what belongs together
	foreign atomic.Bool // the response is another request's
}

func (a *attempt) trace(informed func(status int, header http.Header)) *httptrace.ClientTrace {
	t := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			a.got, a.reused = true, info.Reused
			if tc, ok := info.Conn.(*tls.Conn); ok {
				a.h2 = tc.ConnectionState().NegotiatedProtocol == "h2"
			}
			if a.conn = counter(info.Conn); a.conn != nil {
				a.before = a.conn.written.Load()
				if !a.h2 {
					a.conn.begin()
				}
			}
		},
		GotFirstResponseByte: func() { // not in this goroutine, but after GotConn
			if !a.h2 && a.conn != nil && a.conn.early() {
				a.foreign.Store(true)
				_ = a.conn.Close() // nothing on it can be trusted
			}
		},
	}
	if informed != nil {
		t.Got1xxResponse = func(status int, header textproto.MIMEHeader) error {
			informed(status, http.Header(header))
			return nil
		}
	}
	return t
}

// sent reports whether the backend may have seen the request. On a shared HTTP/2 connection others write too, so the
// answer there is yes as soon as there was a connection.
func (a *attempt) sent() bool {
	return a.got && (a.conn == nil || a.conn.written.Load() != a.before)
}

// stale reports whether the try failed on a kept-alive connection that had ended before anything was written.
func (a *attempt) stale() bool { return a.got && a.reused && !a.sent() }

var _ http.RoundTripper = (*Backend)(nil)

// Probe asks whether the backend answers: for an HTTP address a GET of path that must give 2xx or 3xx, otherwise (or
// without a path) a connection. It blocks until ctx ends. The error is a *protocol.Error.
func (b *Backend) Probe(ctx context.Context, path string) error {
	if b.addr.scheme == "udp" { // that its name resolves is all that can be known
		c, err := b.DialUDP(ctx)
		if err != nil {
			return err
		}
		return c.Close()
	}
	if path == "" || !b.addr.HTTP() {
		c, err := b.Dial(ctx, nil)
		if err != nil {
			return err
		}
		return c.Close()
	}
	return b.probeHTTP(ctx, path)
}
