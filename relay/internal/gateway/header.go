package gateway

import (
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

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
	case asksForUDP(r):
	default:
		return protocol.Errorf(protocol.UpgradeRefused, "only an upgrade to websocket or connect-udp over HTTP/1.1 is possible")
	}
	// Extended CONNECT (RFC 8441, RFC 9220) comes with :protocol instead of a version.
	if r.Method == http.MethodConnect && !strings.HasPrefix(r.Proto, "HTTP/") {
		return protocol.Errorf(protocol.UpgradeRefused, "no extended CONNECT is possible")
	}
	return nil
}

// connectUDP is the protocol of UDP flows (RFC 9298 §3.2).
const connectUDP = "connect-udp"

// asksForUDP reports whether a request is for a UDP flow. Its path, which names a target, counts as little as a CONNECT's port:
// the host names the tunnel.
func asksForUDP(r *http.Request) bool {
	up := r.Header["Upgrade"]
	return len(up) == 1 && strings.EqualFold(up[0], connectUDP) && r.ProtoMajor == 1 && r.Method == http.MethodGet &&
		httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
}

// same reports whether a header's name is spelled, whose letters are small, to a backend that maps names to variables
// (CGI, WSGI): there X_Forwarded_For and X-Forwarded-For are the same.
func same(name, spelled string) bool { return len(name) == len(spelled) && begins(name, spelled) }

func begins(name, spelled string) bool {
	if len(name) < len(spelled) {
		return false
	}
	for i := range len(spelled) {
		c := name[i]
		switch {
		case c == '_':
			c = '-'
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		if c != spelled[i] {
			return false
		}
	}
	return true
}

func sameAsOneOf(name string, spelled []string) bool {
	return slices.ContainsFunc(spelled, func(s string) bool { return same(name, s) })
}

// ours reports whether only the relay may set a header, whoever else has sent it.
func ours(name string) bool {
	return begins(name, "fairlead-") || begins(name, "x-forwarded") || same(name, "forwarded") || same(name, "x-real-ip") || same(name, "txn-token")
}

// framing headers are net/http's to set: an underscore twin of one would be a second opinion.
var framing = []string{"content-length", "transfer-encoding", "content-type", "proxy-connection", "keep-alive", "user-agent", "accept-encoding"}

// hops are the headers that concern one connection only (RFC 9110 §7.6.1), as net/http spells them.
var hops = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// kept reports whether a caller's header, or trailer, may reach a backend.
func kept(name string, forwardToken bool) bool {
	switch {
	case ours(name), same(name, "http2-settings"), same(name, "host"), same(name, "proxy-authorization"):
		return false
	case same(name, "authorization"), same(name, "dpop"):
		return forwardToken
	case strings.Contains(name, "_") && sameAsOneOf(name, framing):
		return false
	}
	// Letters beyond ASCII have no place in a name, and may turn into others on their way.
	return !strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf })
}

// strip removes from a caller's header, or trailer, what may not reach a backend.
func strip(h http.Header, forwardToken bool) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return !kept(name, forwardToken) })
}

// keptAnswer reports whether a backend's header, or trailer, may reach a caller: the relay's own words may not, nor
// where else the relay is reached.
func keptAnswer(name string) bool { return !begins(name, "fairlead-") && !same(name, "alt-svc") }

func stripAnswer(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return !keptAnswer(name) })
}

// passOn copies from a header what concerns more than its connection and may be kept. The values are shared: nobody
// changes them.
func passOn(to, from http.Header, kept func(name string) bool) {
	for name, vv := range from {
		if slices.Contains(hops, name) || !kept(name) {
			continue
		}
		if before := to[name]; before != nil {
			vv = slices.Concat(before, vv)
		}
		to[name] = vv
	}
	for _, v := range from["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			to.Del(textproto.TrimString(name))
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

// query leaves out of a query what one reader would take for one parameter, another for two or none: policy decides on
// what parses, and a backend gets that.
func query(raw string) string {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == ';', c == '%' && !escape(raw[i:]):
			parsed, _ := url.ParseQuery(raw) // the error is about what is left out
			return parsed.Encode()
		}
	}
	return raw
}

// escape reports whether s begins with a percent sign and two hexadecimal digits.
func escape(s string) bool {
	return len(s) >= 3 && strings.IndexByte(hexadecimal, s[1]) >= 0 && strings.IndexByte(hexadecimal, s[2]) >= 0
}

const hexadecimal = "0123456789abcdefABCDEF"

// setForwarded says where the call came from (RFC 7239, and the older spelling of it).
func setForwarded(set func(name, value string), source netip.Addr, host, scheme string) {
	node := "unknown"
	if source.IsValid() {
		node = source.String()
		set("X-Forwarded-For", node)
		if source.Is6() {
			node = `"[` + node + `]"`
		}
	}
	set("X-Forwarded-Host", host)
	set("X-Forwarded-Proto", scheme)
	set("Forwarded", "for="+node+`;host="`+host+`";proto=`+scheme) // a valid host needs no escapes
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
