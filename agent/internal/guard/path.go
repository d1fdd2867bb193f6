package guard

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fairlead/fairlead/protocol"
)

// splitPath cuts an escaped path into its decoded segments. Where two backends could read one path in two ways, it
// is refused rather than repaired, since a repaired path is not the one that the backend gets to see:
//
//   - empty segments ("//"), "." and "..", also percent-encoded, also before a ";" (Tomcat cuts parameters off before
//     it resolves dots);
//   - "/", "\" and NUL that come out of percent-encoding, a bare "\", any control character;
//   - percent-encoding inside percent-encoding ("%252f"), broken percent-encoding, and what is not UTF-8 (overlong
//     dots).
//
// One slash at the end is ignored: "/v1/orders/" is judged as "/v1/orders". "/" has no segments.
func splitPath(path string) ([]string, error) {
	if len(path) > protocol.MaxPath {
		return nil, fmt.Errorf("expected a path of at most %d bytes, got %d", protocol.MaxPath, len(path))
	}
	if path == "" || path[0] != '/' {
		return nil, errors.New("expected a path that begins with /")
	}
	path = path[1:]
	if path == "" {
		return nil, nil
	}
	path = strings.TrimSuffix(path, "/")
	segments := make([]string, 0, strings.Count(path, "/")+1)
	for raw := range strings.SplitSeq(path, "/") {
		s, err := decodeSegment(raw)
		if err != nil {
			return nil, err
		}
		segments = append(segments, s)
	}
	return segments, nil
}

func decodeSegment(raw string) (string, error) {
	s := raw
	if strings.Contains(raw, "%") {
		var err error
		if s, err = unescape(raw); err != nil {
			return "", err
		}
	}
	if !utf8.ValidString(s) {
		return "", errors.New("expected UTF-8 in a path segment")
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/' || c == '\\':
			return "", fmt.Errorf("expected no %q inside a path segment", c)
		case c < 0x20 || c == 0x7f:
			return "", errors.New("expected no control character in a path")
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			return "", errors.New("expected a path that is percent-encoded once, not twice")
		case c == '?' || c == '#':
			// Only from %3f and %23: a backend that decodes before it cuts the query off sees a shorter path.
			return "", fmt.Errorf("expected no %q inside a path segment", c)
		}
	}
	name, _, _ := strings.Cut(s, ";")
	if name == "" || name == "." || name == ".." {
		return "", fmt.Errorf("expected no empty or dot segment, got %q", s)
	}
	return s, nil
}

func unescape(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			return "", errors.New("expected two hex digits after % in a path")
		}
		b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		i += 2
	}
	return b.String(), nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
