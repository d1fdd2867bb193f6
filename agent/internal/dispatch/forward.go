package dispatch

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/protocol"
)

// checkUpgrade admits one upgrade only, to WebSocket. Whatever else is named, h2c above all, would turn the stream
// into one whose requests nobody judges.
func checkUpgrade(h http.Header, to backend.Address) error {
	refused := protocol.Errorf(protocol.UpgradeRefused, "only an upgrade to WebSocket is possible here")
	if len(h["Http2-Settings"]) > 0 {
		return refused
	}
	switch up := h["Upgrade"]; {
	case len(up) == 0:
		return nil
	case len(up) > 1 || !strings.EqualFold(strings.TrimSpace(up[0]), "websocket"):
		return refused
	case !to.Upgrades():
		return protocol.Errorf(protocol.UpgradeRefused, "the backend cannot be upgraded to WebSocket")
	}
	return nil
}

// rewrite prepares the request for the backend. The proxy has removed hop-by-hop headers (and whatever Connection
// names), forwarding headers and odd query parameters; what the relay has set comes back untouched.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	for name, values := range pr.In.Header {
		switch {
		case ours(name):
			pr.Out.Header[name] = values
		case strings.Contains(name, "_") && twin(name):
			delete(pr.Out.Header, name)
		}
	}
	if len(pr.In.Trailer) > 0 && pr.Out.Body != nil {
		carryTrailer(pr)
	}
}

// ours reports whether the relay alone sets a header: it removes the caller's.
func ours(name string) bool {
	return name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Fairlead-")
}

// twin reports whether a backend that takes "_" for "-" (CGI, WSGI) would read the header as one that it trusts.
func twin(name string) bool {
	name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	switch name {
	case "X-Real-Ip", "Txn-Token", "Host", "Content-Length", "Transfer-Encoding":
		return true
	}
	return ours(name)
}

// carryTrailer makes the request's trailers follow its body. The proxy's copy of the request has a map of its own,
// which nobody fills. Trailers that would speak as the relay are dropped.
func carryTrailer(pr *httputil.ProxyRequest) {
	for name := range pr.Out.Trailer {
		if ours(name) || twin(name) || name == "Authorization" || name == "Cookie" {
			delete(pr.Out.Trailer, name)
		}
	}
	pr.Out.Body = &trailingBody{ReadCloser: pr.Out.Body, in: pr.In.Trailer, out: pr.Out.Trailer}
}

// trailingBody copies the trailers over when the body has ended, which is before the transport writes them and in the
// same goroutine.
type trailingBody struct {
	io.ReadCloser
	in, out http.Header
}

func (b *trailingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.out {
			b.out[name] = b.in[name]
		}
	}
	return n, err
}

// roundTripper sends a request to the backend of its call.
type roundTripper struct{}

func (roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	resp, err := x.tunnel.backend.RoundTrip(r)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.report.Wait = time.Since(x.started)
	if err != nil {
		return nil, err
	}
	x.report.Status, x.report.Sent = resp.StatusCode, true
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if r.Header.Get("Upgrade") == "" {
			resp.Body.Close()
			return nil, errUnasked
		}
		return resp, nil
	}
	if resp.ContentLength == 0 && resp.ProtoMajor == 2 && mayHaveBody(r, resp) {
		// HTTP/2 said with the header that nothing follows. It must still say so at the relay: gRPC's errors are such
		// responses, and a client takes one whose end comes later for broken.
		resp.Header.Set("Content-Length", "0")
	}
	resp.Body = &responseBody{ReadCloser: resp.Body, x: x}
	return resp, nil
}

func mayHaveBody(r *http.Request, resp *http.Response) bool {
	return r.Method != http.MethodHead && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified
}

var errUnasked = errors.New("101 Switching Protocols without an Upgrade in the request")

// responseBody notes why a response broke off, before the proxy, which only panics.
type responseBody struct {
	io.ReadCloser
	x *exchange
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.x.failCall(b.x.brokeOff(err))
	}
	return n, err
}

// brokeOff blames the right side for a response that ended early.
func (x *exchange) brokeOff(err error) *protocol.Error {
	if cause := endCause(x.ctx); cause != nil {
		return cause
	}
	return &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the response broke off", Sent: true, Cause: err}
}

// proxyError is what ended an exchange before its response: an error of the backend, or the proxy's own about an
// upgrade that was answered wrongly.
func proxyError(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return &protocol.Error{
		Code: protocol.BackendProtocol, Sentence: "the backend gave no valid response", Sent: true, Cause: err,
	}
}
