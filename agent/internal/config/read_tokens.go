package config

import (
	"net/url"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/certs/bearer"
)

func (r *reader) tokens(n node, a *Agent) {
	n.list(func(_ int, n node) {
		var iss bearer.Issuer
		n.mapping(keys{
			"issuer":     func(n node) { issuer(n, &iss.URL) },
			"audiences":  func(n node) { words(n, &iss.Audiences, "an audience") },
			"jwks":       func(n node) { r.jwks(n, &iss.JWKS) },
			"algorithms": func(n node) { algorithms(n, &iss.Algorithms) },
		}, "issuer", "audiences")
		if iss.URL != "" && slices.ContainsFunc(a.Tokens, func(o bearer.Issuer) bool { return o.URL == iss.URL }) {
			n.fault("expected each issuer once, %s is there already", iss.URL)
			return
		}
		a.Tokens = append(a.Tokens, iss)
	})
}

func issuer(n node, dst *string) {
	s, ok := n.text("the issuer's URL, to the letter")
	if !ok {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "https" && u.Scheme != "http" || len(s) > 2048 {
		n.fault("expected the issuer's URL, to the letter, such as https://idp.example, got %s", n.got())
		return
	}
	*dst = s
}

// jwks takes a URL or a path. Both are opened later; package bearer also refuses URLs over plain http.
func (r *reader) jwks(n node, dst *string) {
	if !strings.Contains(n.Value, "://") {
		r.file(n, dst)
		return
	}
	u, err := url.Parse(n.Value)
	if err != nil || u.User != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		n.fault("expected a file or an https URL without user and password")
		return
	}
	*dst = n.Value
}

func algorithms(n node, dst *[]string) {
	n.list(func(_ int, n node) {
		s, ok := n.text("an algorithm")
		if ok && !slices.Contains(bearer.Algorithms(), s) {
			n.fault("expected one of %s, got %s", strings.Join(bearer.Algorithms(), ", "), n.got())
			return
		}
		*dst = append(*dst, s)
	})
}

// words reads a list of texts, none twice.
func words(n node, dst *[]string, what string) {
	n.list(func(_ int, n node) {
		s, ok := n.text(what)
		switch {
		case !ok:
		case slices.Contains(*dst, s):
			n.fault("expected each entry once")
		default:
			*dst = append(*dst, s)
		}
	})
}

func (r *reader) tokenRule(n node, t *Tunnel) {
	t.Token = new(guard.TokenRule)
	n.mapping(keys{
		"issuer": func(n node) { issuer(n, &t.Token.Issuer); r.issuers = append(r.issuers, n) },
		"scopes": func(n node) { words(n, &t.Token.Scopes, "a scope") },
	}, "issuer")
}

// checkIssuers wants every issuer that a tunnel names among tokens.
func (r *reader) checkIssuers(a *Agent) {
	for _, n := range r.issuers {
		if !slices.ContainsFunc(a.Tokens, func(o bearer.Issuer) bool { return o.URL == n.Value }) {
			n.fault("expected one of the issuers in tokens, to the letter")
		}
	}
}
