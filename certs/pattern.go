package certs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A Pattern matches SPIFFE IDs of one trust domain by path segment: `*` is exactly one segment, `**`, last only, is one
// or more. The zero Pattern matches nothing.
type Pattern struct {
	td       TrustDomain
	segments []string
	rest     bool // the pattern ended in **, which is not among the segments
}

// ParsePattern reads a pattern such as spiffe://dc1.example/agent/*. The trust domain is always written out, and a
// wildcard is always a whole segment. Its errors are safe to log.
func ParsePattern(s string) (Pattern, error) {
	p, err := parsePattern(s)
	if err != nil {
		return Pattern{}, fmt.Errorf("SPIFFE ID pattern %s: %w", quote(s), err)
	}
	return p, nil
}

func parsePattern(s string) (Pattern, error) {
	if len(s) > maxID {
		return Pattern{}, fmt.Errorf("%d bytes: at most %d are allowed", len(s), maxID)
	}
	rest, ok := strings.CutPrefix(s, "spiffe://")
	if !ok {
		return Pattern{}, errors.New("spiffe:// is expected first")
	}
	name, path, ok := strings.Cut(rest, "/")
	if !ok {
		return Pattern{}, errNoPath
	}
	td, err := ParseTrustDomain(name)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{td: td, segments: strings.Split(path, "/")}
	if last := len(p.segments) - 1; p.segments[last] == "**" {
		p.segments, p.rest = p.segments[:last], true
	}
	for _, seg := range p.segments {
		if seg == "*" {
			continue
		}
		if strings.Contains(seg, "*") {
			return Pattern{}, errors.New("a wildcard is a whole segment, and ** comes last only")
		}
		if err := spiffeid.ValidatePathSegment(seg); err != nil {
			return Pattern{}, err
		}
	}
	return p, nil
}

// Match reports whether the pattern covers id.
func (p Pattern) Match(id ID) bool {
	if p.td.IsZero() || id.TrustDomain() != p.td {
		return false
	}
	rest := id.Path() // "/a/b", checked when the ID was made
	for _, want := range p.segments {
		if rest == "" {
			return false
		}
		var seg string
		seg, rest = cutSegment(rest)
		if want != "*" && want != seg {
			return false
		}
	}
	return (rest != "") == p.rest
}

// cutSegment splits "/a/b" into "a" and "/b".
func cutSegment(path string) (seg, rest string) {
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// TrustDomain returns the only trust domain whose IDs the pattern can match.
func (p Pattern) TrustDomain() TrustDomain { return p.td }

// String returns the pattern as it was written.
func (p Pattern) String() string {
	if p.td.IsZero() {
		return ""
	}
	segments := p.segments
	if p.rest {
		segments = append(slices.Clone(segments), "**")
	}
	return "spiffe://" + p.td.Name() + "/" + strings.Join(segments, "/")
}

// Patterns match an ID that any of them matches; none match nobody.
type Patterns []Pattern

// Match reports whether any pattern covers id.
func (ps Patterns) Match(id ID) bool {
	return slices.ContainsFunc(ps, func(p Pattern) bool { return p.Match(id) })
}

// NamesTrustDomain reports whether any pattern could match an ID of td.
func (ps Patterns) NamesTrustDomain(td TrustDomain) bool {
	return slices.ContainsFunc(ps, func(p Pattern) bool { return !td.IsZero() && p.td == td })
}
