package guard

import (
	"fmt"
	"strings"
)

// PathPattern is a pattern of paths: "*" is exactly one segment, "**" (last only) one or more. So "/v1/orders/**"
// covers "/v1/orders/7" and neither "/v1/orders" nor "/v1/orders-archive". The zero value matches nothing; only
// ParsePathPattern makes others.
type PathPattern struct {
	text     string
	segments []string
	rest     bool // ends in "**"
}

// ParsePathPattern reads a pattern such as "/v1/orders/*". Every other segment is compared as it is written, against
// the decoded segment of the path; what no path can match (dot segments, escapes, a doubled slash) is an error.
func ParsePathPattern(s string) (PathPattern, error) {
	if strings.ContainsAny(s, "%?#;") {
		return PathPattern{}, fmt.Errorf("expected a path written plainly, without %%, ?, # or ;, got %q", s)
	}
	if len(s) > 1 && strings.HasSuffix(s, "/") {
		return PathPattern{}, fmt.Errorf("expected no / at the end, got %q", s)
	}
	segments, err := splitPath(s)
	if err != nil {
		return PathPattern{}, fmt.Errorf("path pattern %q: %w", s, err)
	}
	p := PathPattern{text: s, segments: segments}
	for i, seg := range segments {
		switch {
		case seg == "*":
		case seg == "**" && i == len(segments)-1:
			p.rest = true
			p.segments = segments[:i]
		case strings.Contains(seg, "*"):
			return PathPattern{}, fmt.Errorf("expected * as a whole segment and ** as the last one only, got %q", s)
		}
	}
	return p, nil
}

func (p PathPattern) match(segments []string) bool {
	if p.text == "" || len(segments) < len(p.segments) {
		return false
	}
	if p.rest != (len(segments) > len(p.segments)) {
		return false
	}
	for i, want := range p.segments {
		if want != "*" && want != segments[i] {
			return false
		}
	}
	return true
}

// Match reports whether the escaped path is one that splits without ambiguity and that the pattern covers.
func (p PathPattern) Match(path string) bool {
	segments, err := splitPath(path)
	return err == nil && p.match(segments)
}

func (p PathPattern) String() string { return p.text }
