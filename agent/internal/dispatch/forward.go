package dispatch

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/protocol"
)

// checkUpgrade admits one upgrade only, to WebSocket. Whatever else is named, h2c above all, would turn the stream
// into one whose requests nobody judges.
func checkUpgrade(h http.Header, to backend.Address) error {
	switch up := h["Upgrade"]; {
	case len(h["Http2-Settings"]) > 0, len(up) > 1, len(up) == 1 && !strings.EqualFold(strings.TrimSpace(up[0]), "websocket"):
		return protocol.Errorf(protocol.UpgradeRefused, "only an upgrade to WebSocket is possible here")
	case len(up) == 0:
		return nil
	case !to.Upgrades():
		return protocol.Errorf(protocol.UpgradeRefused, "the backend cannot be upgraded to WebSocket")
	}
	return nil
}

// hops are the headers that concern one connection only (RFC 9110 §7.6.1).
var hops = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// passOn copies from a header what concerns more than its connection. The values are shared: nobody changes them.
// What Connection names goes too, except for what the relay has set.
func passOn(to, from http.Header) {
	for name, vv := range from {
		if !slices.Contains(hops, name) {
			to[name] = vv
		}
	}
	for _, v := range from["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = http.CanonicalHeaderKey(textproto.TrimString(name)); !ours(name) {
				delete(to, name)
			}
		}
	}
}

// upgrade is the protocol that a header wants to switch to, "" for none.
func upgrade(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// outgoing is the request for the backend: without what concerns the link alone, or what a backend could take for the
// relay's word, and with who calls, as the grant says. The error is a *protocol.Error.
func (x *exchange) outgoing(r *http.Request) (*http.Request, error) {
	out := r.WithContext(x.ctx)
	out.Close, out.Trailer = false, nil
	h := make(http.Header, len(r.Header)+1)
	passOn(h, r.Header)
	for name := range h {
		if strings.Contains(name, "_") && twin(name) {
			delete(h, name)
		}
	}
	if err := x.identify(h); err != nil {
		return nil, err
	}
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		h["Te"] = []string{"trailers"}
	}
	if to := upgrade(r.Header); to != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{to}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would make one up
	}
	out.Header = h
	if r.ContentLength == 0 || r.Body == http.NoBody {
		out.Body = nil
		x.ask()
		return out, nil
	}
	out.Body = &requestBody{x: x, src: r.Body, hold: expectsContinue(r)}
	if len(r.Trailer) > 0 {
		carryTrailer(out, r)
	}
	return out, nil
}

// ours reports whether the relay alone sets a header: it removes the caller's.
func ours(name string) bool {
	return name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Fairlead-") || name == headerTxnToken
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

// carryTrailer makes the request's trailers follow its body. Those that would speak as the relay are dropped.
func carryTrailer(out, in *http.Request) {
	out.Trailer = make(http.Header, len(in.Trailer))
	for name := range in.Trailer {
		if !ours(name) && !twin(name) && name != "Authorization" && name != "Cookie" {
			out.Trailer[name] = nil
		}
	}
	out.Body = &trailingBody{ReadCloser: out.Body, in: in.Trailer, out: out.Trailer}
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

// brokeOff blames the right side for a response that ended early.
func (x *exchange) brokeOff(err error) *protocol.Error {
	if cause := endCause(x.ctx); cause != nil {
		return cause
	}
	return &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the response broke off", Sent: true, Cause: err}
}

// proxyError is what ended an exchange before its response: an error of the backend, or an upgrade that was answered
// wrongly.
func proxyError(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return &protocol.Error{
		Code: protocol.BackendProtocol, Sentence: "the backend gave no valid response", Sent: true, Cause: err,
	}
}
