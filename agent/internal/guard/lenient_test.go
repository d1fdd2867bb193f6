package guard

import (
	stdpath "path"
	"strings"
)

// lenientRead is the most forgiving reader of paths that a backend may be: it decodes twice, takes "\" for "/", cuts
// off queries, fragments, path parameters and whatever follows a NUL, folds slashes and resolves dots.
func lenientRead(path string) string {
	for range 2 {
		path = lenientUnescape(path)
	}
	path = strings.ReplaceAll(path, `\`, "/")
	path, _, _ = strings.Cut(path, "\x00")
	path, _, _ = strings.Cut(path, "?")
	path, _, _ = strings.Cut(path, "#")
	var segments []string
	for seg := range strings.SplitSeq(path, "/") {
		seg, _, _ = strings.Cut(seg, ";")
		segments = append(segments, seg)
	}
	return stdpath.Clean(strings.Join(segments, "/"))
}

func lenientUnescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
