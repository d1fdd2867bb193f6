package tunnel

import (
	"errors"
	"strings"
)

// Prefix is the path under which an http tunnel is found. The empty prefix covers every path; any other one starts
// with a slash, ends without one, and covers itself and what follows it after a slash.
type Prefix string

var errPrefix = errors.New(`expected a path such as /v1/orders: a slash first, no empty, "." or ".." segment, no escapes, query or pattern`)

// ParsePrefix reads a prefix as an operator writes it. "/" is the empty prefix.
func ParsePrefix(s string) (Prefix, error) {
	p := strings.TrimSuffix(s, "/")
	if p == "" && s != "" {
		return "", nil
	}
	if !strings.HasPrefix(p, "/") {
		return "", errPrefix
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		if seg == "" || seg == "." || seg == ".." || strings.ContainsFunc(seg, oddInPrefix) {
			return "", errPrefix
		}
	}
	return Prefix(p), nil
}

func oddInPrefix(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`%*?#\`, r) }

// Covers reports whether a decoded path is the prefix or lies below it, by whole segments.
func (p Prefix) Covers(path string) bool {
	rest, ok := strings.CutPrefix(path, string(p))
	return ok && (p == "" || rest == "" || rest[0] == '/')
}
