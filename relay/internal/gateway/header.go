package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/fairlead/fairlead/protocol"
)

// checkHeader refuses what is too large or may be read in two ways.
func checkHeader(r *http.Request, l Limits) error {
	fields := 0
	for name, vv := range r.Header {
		fields += len(vv)
		for _, v := range vv {
			if len(name)+len(v) > l.HeaderFieldBytes {
				return protocol.Errorf(protocol.HeadersTooLarge, "a header field of at most %d bytes is expected", l.HeaderFieldBytes)
			}
		}
	}
	if fields > l.HeaderCount {
		return protocol.Errorf(protocol.HeadersTooLarge, "at most %d header fields are expected", l.HeaderCount)
	}
	if len(r.RequestURI) > l.HeaderFieldBytes {
		return protocol.Errorf(protocol.HeadersTooLarge, "a request target of at most %d bytes is expected", l.HeaderFieldBytes)
	}
	// net/http moves Host away in HTTP/1.1; where HTTP/2 or 3 leaves one beside :authority, both must agree.
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return protocol.Errorf(protocol.BadRequest, "expected one host, got two")
		}
	}
	if r.Host == "" || !httpguts.ValidHostHeader(r.Host) {
		return protocol.Errorf(protocol.BadRequest, "expected a host")
	}
	// HTTP/1.1 has a form of target with a host in it, which net/http has compared with nothing in HTTP/2 and 3.
	if r.ProtoMajor > 1 && r.Method != http.MethodConnect && !strings.HasPrefix(r.RequestURI, "/") {
		return protocol.Errorf(protocol.BadRequest, "expected a path")
	}
	if !httpguts.ValidHeaderFieldName(r.Method) { // a method is a token, as a header's name is
		return protocol.Errorf(protocol.BadRequest, "expected a method")
	}
	return nil
}

// checkUpgrade lets WebSocket through and nothing else: an upgraded connection is one that nobody reads along.
func checkUpgrade(r *http.Request) error {
	switch up := r.Header["Upgrade"]; {
	case len(up) == 0 && !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade"):
	case len(up) == 1 && strings.EqualFold(up[0], "websocket") && r.ProtoMajor == 1:
	default:
		return protocol.Errorf(protocol.UpgradeRefused, "only an upgrade to websocket over HTTP/1.1 is possible")
	}
	// Extended CONNECT (RFC 8441, RFC 9220) comes with :protocol instead of a version.
	if r.Method == http.MethodConnect && !strings.HasPrefix(r.Proto, "HTTP/") {
		return protocol.Errorf(protocol.UpgradeRefused, "no extended CONNECT is possible")
	}
	return nil
}

// spelled brings a header's name to the one spelling that a backend which maps names to variables (CGI, WSGI) sees:
// there X_Forwarded_For and X-Forwarded-For are the same.
func spelled(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// ours reports whether only the relay may set a header, whoever else has sent it.
func ours(spelled string) bool {
	return strings.HasPrefix(spelled, "fairlead-") || strings.HasPrefix(spelled, "x-forwarded") ||
		spelled == "forwarded" || spelled == "x-real-ip" || spelled == "txn-token"
}

// framing headers are net/http's to set: an underscore twin of one would be a second opinion.
var framing = []string{"content-length", "transfer-encoding", "content-type", "proxy-connection", "keep-alive", "user-agent", "accept-encoding"}

// secret reports whether a header may carry the caller's token to the relay.
func secret(spelled string) bool {
	return spelled == "authorization" || spelled == "proxy-authorization"
}

// strip removes from a caller's header, or trailer, what may not reach a backend.
func strip(h http.Header, forwardToken bool) {
	for name := range h {
		s := spelled(name)
		twin := strings.Contains(name, "_")
		keepToken := forwardToken && s == "authorization"
		if ours(s) || s == "http2-settings" || s == "host" || secret(s) && !keepToken || twin && slices.Contains(framing, s) {
			delete(h, name)
		}
	}
}

// stripAnswer removes from a backend's header, or trailer, what only the relay may say to a caller: its own words, and
// where else the relay is reached.
func stripAnswer(h http.Header) {
	for name := range h {
		if s := spelled(name); strings.HasPrefix(s, "fairlead-") || s == "alt-svc" {
			delete(h, name)
		}
	}
}

// setForwarded says where the call came from (RFC 7239, and the older spelling of it).
func setForwarded(h http.Header, source netip.Addr, host, scheme string) {
	node := "unknown"
	if source.IsValid() {
		node = source.String()
		h.Set("X-Forwarded-For", node)
		if source.Is6() {
			node = `"[` + node + `]"`
		}
	}
	h.Set("X-Forwarded-Host", host)
	h.Set("X-Forwarded-Proto", scheme)
	h.Set("Forwarded", fmt.Sprintf(`for=%s;host=%q;proto=%s`, node, host, scheme)) // a valid host needs no escapes
}

// traceContext returns the W3C trace headers where they are well-formed enough to be passed on in an Open.
func traceContext(h http.Header) (parent, state string) {
	if vv := h["Traceparent"]; len(vv) == 1 && len(vv[0]) <= 128 && printable(vv[0]) {
		parent = vv[0]
	}
	if s := strings.Join(h["Tracestate"], ","); parent != "" && len(s) <= 512 && printable(s) {
		state = s
	}
	return parent, state
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
