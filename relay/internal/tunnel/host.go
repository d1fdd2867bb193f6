package tunnel

import (
	"fmt"
	"net/netip"
	"strings"
)

// Host is a tunnel's public name in its one spelling: lower case, without port, brackets or a trailing dot.
type Host string

// maxHost is the longest host name in bytes (RFC 1035 §2.3.4, without the trailing dot).
const maxHost = 253

// ParseHost reads a host as an operator writes it: a DNS name or an IP address, never a pattern or a port.
func ParseHost(s string) (Host, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return "", fmt.Errorf("expected an IP address without a zone, got %.100q", s)
		}
		return Host(addr.Unmap().String()), nil
	}
	h := strings.ToLower(strings.TrimSuffix(s, "."))
	if h == "" || len(h) > maxHost {
		return "", fmt.Errorf("expected a host name of 1 to %d bytes, got %d", maxHost, len(h))
	}
	for label := range strings.SplitSeq(h, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("expected a host name without port or pattern, got %.100q", s)
		}
	}
	return Host(h), nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// RequestHost brings the Host or authority of a request to the spelling of Host: in any case, with or without a port or
// a trailing dot. What is no host comes out as something that no tunnel has.
func RequestHost(s string) Host {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		inner, after, closed := strings.Cut(rest, "]")
		addr, err := netip.ParseAddr(inner)
		if !closed || err != nil || after != "" && after[0] != ':' {
			return ""
		}
		return Host(addr.Unmap().String())
	}
	name, port, _ := strings.Cut(s, ":")
	if strings.Contains(port, ":") {
		return "" // an IPv6 address without brackets, or no host at all
	}
	return Host(strings.ToLower(strings.TrimSuffix(name, ".")))
}
