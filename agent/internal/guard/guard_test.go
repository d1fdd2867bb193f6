package guard

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

func rules(t testing.TB, paths ...string) *Rules {
	t.Helper()
	r := &Rules{Tunnel: "orders", Networks: []protocol.Network{protocol.HTTP}, Methods: []string{"GET", "POST"}}
	for _, s := range paths {
		p, err := ParsePathPattern(s)
		if err != nil {
			t.Fatal(err)
		}
		r.Paths = append(r.Paths, p)
	}
	return r
}

func denied(err error) bool {
	e, ok := errors.AsType[*protocol.Error](err)
	return ok && e.Code == protocol.AgentDenied && !e.Sent
}

func TestPathRulesGoBySegment(t *testing.T) {
	r := rules(t, "/accounting", "/accounting/**", "/v1/orders/*/lines")
	for path, want := range map[string]bool{
		"/accounting":              true,
		"/accounting/":             true,
		"/accounting/2026/11":      true,
		"/%61ccounting/x":          true,
		"/accounting/a%20b":        true,
		"/v1/orders/7/lines":       true,
		"/v1/orders/100%25/lines":  true,
		"/accounting-plus":         false,
		"/accounting-plus/x":       false,
		"/accountin":               false,
		"/Accounting":              false,
		"/":                        false,
		"/v1/orders/lines":         false,
		"/v1/orders/7/8/lines":     false,
		"/v1/orders/7/lines/extra": false,
	} {
		err := admit(r, &protocol.Open{Network: protocol.HTTP, Method: "GET", Path: path})
		if (err == nil) != want || err != nil && !denied(err) {
			t.Errorf("%s: got %v, want admitted=%t", path, err, want)
		}
	}
}

func TestAmbiguousPathsAreRefused(t *testing.T) {
	r := rules(t, "/public/**")
	for _, path := range []string{
		"", "public/x", "*", "http://other/public/x",
		"/public//x", "//public/x", "/public/x//", "/public/./x", "/public/../admin", "/public/..", "/public/.",
		"/public/%2e%2e/admin", "/public/.%2E/admin", "/public/%2e/x", "/public/..;/admin", "/public/..;a=b/admin",
		"/public/..%3b/admin", "/public/;/x", "/public/%2fadmin", "/public/..%2fadmin", "/public/x%2F..%2Fadmin",
		`/public/..\admin`, "/public/..%5cadmin", "/public/%5C", "/public/x%00", "/public/%0d%0a", "/public/\x00",
		"/public/%252e%252e/admin", "/public/%252fadmin", "/public/%", "/public/%4", "/public/%zz",
		"/public/%c0%ae%c0%ae/admin", "/public/\xc0\xae", "/public/x%3f", "/public/x%23",
		"/public/" + strings.Repeat("a", protocol.MaxPath),
	} {
		if err := admit(r, &protocol.Open{Network: protocol.HTTP, Method: "GET", Path: path}); !denied(err) {
			t.Errorf("%.40q: got %v, want agent_denied", path, err)
		}
	}
}

func TestATunnelWithoutPathRulesLeavesPathsAlone(t *testing.T) {
	r := rules(t)
	if err := admit(r, &protocol.Open{Network: protocol.HTTP, Method: "GET", Path: "/projects/a%2Fb//c"}); err != nil {
		t.Error(err)
	}
}

func TestOtherMethodsAndNetworksAreRefused(t *testing.T) {
	r := rules(t, "/**")
	for _, open := range []*protocol.Open{
		{Network: protocol.HTTP, Method: "DELETE", Path: "/x"},
		{Network: protocol.HTTP, Method: "get", Path: "/x"},
		{Network: protocol.TCP},
		{Network: protocol.UDP},
	} {
		if err := admit(r, open); !denied(err) {
			t.Errorf("%+v: got %v, want agent_denied", open, err)
		}
	}
}

func TestOnlyTheCallersOfTheFileAreAdmitted(t *testing.T) {
	p, err := certs.ParsePattern("spiffe://cloud.example/api/*")
	if err != nil {
		t.Fatal(err)
	}
	r := &Rules{Networks: []protocol.Network{protocol.TCP}, Callers: certs.Patterns{p}}
	for caller, want := range map[string]bool{
		"spiffe://cloud.example/api/billing":      true,
		"spiffe://cloud.example/api/billing/x":    false,
		"spiffe://cloud.example/api-evil/billing": false,
		"spiffe://other.example/api/billing":      false,
		"":                                        false,
	} {
		g := new(grant.Grant)
		if caller != "" {
			g.Caller = spiffeid.RequireFromString(caller)
		}
		err := r.Admit(t.Context(), &protocol.Open{Network: protocol.TCP}, g, nil)
		if (err == nil) != want || err != nil && !denied(err) {
			t.Errorf("%q: got %v, want admitted=%t", caller, err, want)
		}
	}
}

// tokens knows two tokens; the keys of a third one's issuer are away.
type tokens struct{}

func (tokens) Verify(_ context.Context, raw string) (*bearer.Token, error) {
	switch raw {
	case "ada":
		return &bearer.Token{Issuer: "https://idp.example", Subject: "ada", Scopes: []string{"orders.read"}}, nil
	case "other":
		return &bearer.Token{Issuer: "https://other.example", Subject: "ada", Scopes: []string{"orders.read"}}, nil
	case "away":
		return nil, bearer.ErrUnavailable
	}
	return nil, &bearer.InvalidError{Reason: bearer.ReasonSignature, Detail: "signature does not verify"}
}

func TestTheCallersOwnTokenIsJudgedHereToo(t *testing.T) {
	rule := func(scopes ...string) *Rules {
		return &Rules{Networks: []protocol.Network{protocol.TCP}, Token: &TokenRule{Issuer: "https://idp.example", Scopes: scopes}}
	}
	ada := &grant.Grant{User: "ada", Issuer: "https://idp.example"}
	for name, c := range map[string]struct {
		token string
		rules *Rules
		grant *grant.Grant
		want  protocol.Code
	}{
		"good":                     {"ada", rule("orders.read"), ada, protocol.OK},
		"no user in the grant":     {"ada", rule(), &grant.Grant{}, protocol.OK}, // the relay looks at no token
		"none":                     {"", rule(), ada, protocol.AgentDenied},
		"bad":                      {"forged", rule(), ada, protocol.AgentDenied},
		"another issuer's":         {"other", rule(), ada, protocol.AgentDenied},
		"a scope less":             {"ada", rule("orders.read", "orders.write"), ada, protocol.AgentDenied},
		"another user's":           {"ada", rule(), &grant.Grant{User: "eve", Issuer: "https://idp.example"}, protocol.AgentDenied},
		"keys are away":            {"away", rule(), ada, protocol.IdentityUnavailable},
		"nobody wants one":         {"", &Rules{Networks: []protocol.Network{protocol.TCP}}, ada, protocol.OK},
		"another network's caller": {"ada", &Rules{Networks: []protocol.Network{protocol.HTTP}, Token: &TokenRule{}}, ada, protocol.AgentDenied},
	} {
		got := protocol.OK
		if err := c.rules.Admit(t.Context(), &protocol.Open{Network: protocol.TCP, Token: c.token}, c.grant, tokens{}); err != nil {
			got = protocol.AsError(err).Code
		}
		if got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func admit(r *Rules, open *protocol.Open) error {
	return r.Admit(context.Background(), open, new(grant.Grant), nil)
}

func TestTheRequestMustBeTheOneAnnounced(t *testing.T) {
	open := &protocol.Open{Network: protocol.HTTP, Method: "GET", Path: "/v1/a%2Fb"}
	for request, want := range map[string]protocol.Code{
		"GET /v1/a%2Fb?x=1 HTTP/1.1":                protocol.OK,
		"GET /v1/a%2fb HTTP/1.1":                    protocol.BadRequest,
		"GET /v1/a/b HTTP/1.1":                      protocol.BadRequest,
		"POST /v1/a%2Fb HTTP/1.1":                   protocol.BadRequest,
		"GET http://evil.example/v1/a%2Fb HTTP/1.1": protocol.BadRequest, // S06
		"OPTIONS * HTTP/1.1":                        protocol.BadRequest,
		"CONNECT evil.example:443 HTTP/1.1":         protocol.MethodNotAllowed, // S06
	} {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request + "\r\nHost: orders\r\n\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		got := protocol.OK
		if err := SameRequest(open, req); err != nil {
			got = protocol.AsError(err).Code
		}
		if got != want {
			t.Errorf("%s: got %v, want %v", request, got, want)
		}
	}
}

func TestBadPathPatternsAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "v1", "/v1/", "//", "/v1//x", "/../x", "/v1/**/x", "/v1/a*", "/v1/***", "/v1/%2e", "/v1/x?y", "/a;b", `/a\b`,
	} {
		if p, err := ParsePathPattern(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, p)
		}
	}
}

// FuzzPath checks that a path which a pattern admits cannot be read as one outside of it by a backend that decodes,
// cuts parameters, resolves dots and folds slashes.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/pub/x", "/pub/%2e%2e/x", "/pub/..;/x", "/pub//x", "/pub/%252f", "/pub/a%20b/", "/"} {
		f.Add(s)
	}
	p, err := ParsePathPattern("/pub/**")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !p.Match(path) {
			return
		}
		if read := lenientRead(path); !strings.HasPrefix(read, "/pub/") {
			t.Errorf("%q is admitted, and reads as %q", path, read)
		}
	})
}
