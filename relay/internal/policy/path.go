package policy

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/fairlead/fairlead/protocol"
)

// readPath decodes the path. What a backend could read as another path than the rules saw is refused, for every host
// alike: dot segments in any disguise, encoded separators, empty segments, bytes that are not text.
func (t *trial) readPath() *protocol.Error {
	t.decision.Rule = RulePath
	r := t.request
	if r.Network != protocol.HTTP || r.Path == "*" && r.Method == "OPTIONS" {
		t.path = r.Path
		return nil
	}
	if !strings.HasPrefix(r.Path, "/") {
		return ambiguous("expected to start with a slash")
	}
	path := r.Path
	if strings.IndexByte(path, '%') >= 0 {
		if hasEncodedSeparator(path) {
			return ambiguous("an encoded slash or backslash is not taken")
		}
		var err error
		if path, err = url.PathUnescape(path); err != nil {
			return ambiguous("expected two hexadecimal digits after every percent sign")
		}
	}
	if !utf8.ValidString(path) || strings.ContainsFunc(path, isControl) || strings.IndexByte(path, '\\') >= 0 {
		return ambiguous("expected UTF-8 without control characters and backslashes")
	}
	if problem := checkSegments(path); problem != "" {
		return ambiguous(problem)
	}
	t.path = path
	return nil
}

func ambiguous(problem string) *protocol.Error {
	return protocol.Errorf(protocol.BadRequest, "path: %s", problem)
}

func hasEncodedSeparator(path string) bool {
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && (path[i+1] == '2' && path[i+2]|0x20 == 'f' || path[i+1] == '5' && path[i+2]|0x20 == 'c') {
			return true
		}
	}
	return false
}

func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r < 0xa0 }

// checkSegments returns what is wrong with the segments of "/a/b", or "".
func checkSegments(path string) string {
	for rest, more := path[1:], true; more; {
		var seg string
		seg, rest, more = strings.Cut(rest, "/")
		if seg == "" && more {
			return "an empty segment is not taken"
		}
		// Some servers cut parameters off first: for them "..;x" is "..".
		if name, _, _ := strings.Cut(seg, ";"); name == "." || name == ".." {
			return `a "." or ".." segment is not taken`
		}
	}
	return ""
}
