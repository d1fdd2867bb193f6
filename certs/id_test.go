package certs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs"
)

func pattern(tb testing.TB, s string) certs.Pattern {
	tb.Helper()
	p, err := certs.ParsePattern(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func id(tb testing.TB, s string) certs.ID {
	tb.Helper()
	id, err := certs.ParseID(s)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// H13
func TestPatternMatchesBySegment(t *testing.T) {
	for _, test := range []struct {
		pattern  string
		yes, not []string
	}{
		{"spiffe://td/tenant/acme", []string{"spiffe://td/tenant/acme"}, []string{"spiffe://td/tenant", "spiffe://td/tenant/acme/a", "spiffe://td/tenant/acme-evil", "spiffe://other/tenant/acme"}},
		{"spiffe://td/tenant/acme/**", []string{"spiffe://td/tenant/acme/agent/1", "spiffe://td/tenant/acme/a"}, []string{"spiffe://td/tenant/acme-evil/agent/1", "spiffe://td/tenant/acme", "spiffe://td/a/tenant/acme/x"}},
		{"spiffe://td/*/b", []string{"spiffe://td/a/b"}, []string{"spiffe://td/b", "spiffe://td/a/a/b", "spiffe://td/a/b/c"}},
		{"spiffe://td/*", []string{"spiffe://td/a"}, []string{"spiffe://td/a/b"}},
		{"spiffe://td/**", []string{"spiffe://td/a", "spiffe://td/a/b/c"}, []string{"spiffe://td.evil/a", "spiffe://evil.td/a"}},
		{"spiffe://td/*/**", []string{"spiffe://td/a/b"}, []string{"spiffe://td/a"}},
	} {
		p := pattern(t, test.pattern)
		if p.String() != test.pattern || p.TrustDomain().Name() != "td" {
			t.Errorf("%s prints as %s of %s", test.pattern, p, p.TrustDomain())
		}
		for _, s := range test.yes {
			if !p.Match(id(t, s)) {
				t.Errorf("%s does not match %s", p, s)
			}
		}
		for _, s := range test.not {
			if p.Match(id(t, s)) {
				t.Errorf("%s matches %s", p, s)
			}
		}
	}
}

func TestPatternThatCouldSurpriseIsRefused(t *testing.T) {
	for _, s := range []string{
		"", "*", "**", "spiffe://", "spiffe://*/a", "spiffe://td", "spiffe://td/", "spiffe://td/a/", "spiffe://td//a",
		"spiffe://td/a*", "spiffe://td/*a", "spiffe://td/**/a", "spiffe://td/***", "spiffe://td/a/../b", "spiffe://TD/a",
		"https://td/a", "spiffe://td:1/a", "spiffe://td/%61", "spiffe://td/a?b", "spiffe://td/" + strings.Repeat("a", 2048),
	} {
		if p, err := certs.ParsePattern(s); err == nil {
			t.Errorf("%q was taken as %s", s, p)
		}
	}
}

func TestZeroValuesMatchNobody(t *testing.T) {
	a := id(t, "spiffe://td/a")
	if (certs.Pattern{}).Match(a) || (certs.Pattern{}).Match(certs.ID{}) || (certs.Patterns{}).Match(a) ||
		pattern(t, "spiffe://td/**").Match(certs.ID{}) || certs.Patterns(nil).NamesTrustDomain(a.TrustDomain()) ||
		(certs.Patterns{{}}).NamesTrustDomain(certs.TrustDomain{}) {
		t.Error("a zero value matched")
	}
}

func TestPatternsNameTheirTrustDomains(t *testing.T) {
	ps := certs.Patterns{pattern(t, "spiffe://td/a"), pattern(t, "spiffe://td2/*")}
	if !ps.Match(id(t, "spiffe://td2/x")) || ps.Match(id(t, "spiffe://td/b")) {
		t.Error("patterns do not match as their members do")
	}
	if !ps.NamesTrustDomain(id(t, "spiffe://td/zzz").TrustDomain()) || ps.NamesTrustDomain(id(t, "spiffe://td3/a").TrustDomain()) {
		t.Error("wrong trust domains")
	}
}

func TestTrustDomainIsABareName(t *testing.T) {
	for _, s := range []string{"", "spiffe://td", "spiffe://td/a", "TD", "td/a", "td:1", "*", strings.Repeat("a", 256)} {
		if td, err := certs.ParseTrustDomain(s); err == nil {
			t.Errorf("%q was taken as %s", s, td)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"spiffe://td/a/b", "spiffe://td", "spiffe://td/../a", "spiffe://td/a%2f", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := certs.ParseID(s)
		if err != nil {
			return
		}
		if id.String() != s || len(s) > 2048 || strings.ContainsAny(s, "%?#@*\\ \n") || strings.Contains(s[9:], "//") || id.Path() == "" {
			t.Errorf("took %q as %s", s, id)
		}
		if self, err := certs.ParsePattern(s); err != nil || !self.Match(id) {
			t.Errorf("%q does not match itself: %v", s, err)
		}
	})
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"spiffe://td/a/*", "spiffe://td/**", "spiffe://td/*/b", "spiffe://td/a*"} {
		f.Add(s, "spiffe://td/a/b")
	}
	f.Fuzz(func(t *testing.T, s, other string) {
		p, err := certs.ParsePattern(s)
		if err != nil {
			return
		}
		if p.String() != s {
			t.Errorf("%q prints as %q", s, p)
		}
		id, err := certs.ParseID(other)
		if err != nil {
			return
		}
		if got, want := p.Match(id), slowMatch(s, other); got != want {
			t.Errorf("%s matches %s: %v, want %v", s, other, got, want)
		}
	})
}

// slowMatch says again, in the plainest way, what a pattern matches.
func slowMatch(pattern, id string) bool {
	p, segments := strings.Split(pattern, "/")[2:], strings.Split(id, "/")[2:]
	if last := len(p) - 1; p[last] == "**" {
		if len(segments) <= last {
			return false
		}
		p, segments = p[:last], segments[:last]
	}
	return slices.EqualFunc(p, segments, func(a, b string) bool { return a == b || a == "*" })
}
