package policy

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

func TestAGoodCallPassesWithItsPrincipal(t *testing.T) {
	w := newWorld(t)
	d, _ := w.wants("http", get(w.api(), orders, w.reader()), protocol.OK, RuleAllow)
	if p := d.Principal; d.Tunnel.Name != "orders" || p.Caller.String() != "spiffe://cloud.example/api/shop" ||
		p.User() != "user-1" || p.Issuer() != w.idp.URL || len(p.Scopes()) != 1 {
		t.Errorf("got %+v", d)
	}
	billing := w.peer(w.cloud, "spiffe://cloud.example/api/billing")
	w.wants("tcp", connect(billing, ledger, w.reader()), protocol.OK, RuleDefault)
	r := connect(billing, ledger, "")
	r.Header.Set("Authorization", "Bearer "+w.reader())
	w.wants("tcp with Authorization", r, protocol.OK, RuleDefault)
}

func TestTheSVIDIsAskedFirst(t *testing.T) { // H02, H03, H04, H06, H07
	w := newWorld(t)
	const id = "spiffe://cloud.example/api/shop"
	for what, r := range map[string]*Request{
		"none":                    get(nil, orders, w.reader()),
		"of an unknown domain":    get(w.peer(w.evil, "spiffe://evil.example/api/shop"), orders, w.reader()),
		"of an impostor":          get(w.peer(w.evil, id), orders, w.reader()),
		"expired":                 get(w.peer(w.cloud, id, past), orders, w.reader()),
		"with two names":          get(w.peer(w.cloud, id, certstest.URIs(id, "spiffe://cloud.example/api/b")), orders, w.reader()),
		"of a CA":                 get(w.peer(w.cloud, id, certstest.AsCA()), orders, w.reader()),
		"none, to a tcp tunnel":   connect(nil, ledger, w.reader()),
		"expired, to an any host": get(w.peer(w.cloud, id, past), "site.dc1.example", ""),
	} {
		w.wants(what, r, protocol.CallerUnknown, RuleSVID)
	}
	w.wants("bad, and a bad path", withPath(get(w.peer(w.cloud, id, past), orders, ""), "/../x"), protocol.CallerUnknown, RuleSVID)
}

func TestWithoutAnSVIDARealHostAndAnUnknownOneLookAlike(t *testing.T) {
	w := newWorld(t)
	bad := w.peer(w.evil, "spiffe://cloud.example/api/shop")
	for what, pair := range map[string][2]*Request{
		"no SVID":            {get(nil, orders, ""), get(nil, "no.such.host", "")},
		"no SVID, a token":   {get(nil, orders, w.reader()), get(nil, "no.such.host", w.reader())},
		"no SVID, CONNECT":   {connect(nil, ledger, ""), connect(nil, "no.such.host", "")},
		"no SVID, crossed":   {connect(nil, orders, ""), get(nil, ledger, "")},
		"bad SVID":           {get(bad, orders, w.reader()), get(bad, "no.such.host", w.reader())},
		"bad SVID, CONNECT":  {connect(bad, ledger, ""), connect(bad, "no.such.host", "")},
		"closed path":        {get(nil, "site.dc1.example", ""), get(nil, "no.such.host", "")},
		"open host, CONNECT": {connect(nil, orders, ""), connect(nil, "no.such.host", "")},
	} {
		a, errA := w.decide(pair[0])
		b, errB := w.decide(pair[1])
		if errA == nil || errB == nil || errA.Code != errB.Code || errA.Sentence != errB.Sentence || !reflect.DeepEqual(a, b) || a.Tunnel != nil {
			t.Errorf("%s: %v and %v, %+v and %+v", what, errA, errB, a, b)
		}
	}
}

func TestATunnelOfAnotherTrustDomainIsUnknownToTheLetter(t *testing.T) { // R08, H12
	w := newWorld(t)
	b := w.peer(w.tenantB, "spiffe://tenant-b.example/api/shop")
	tokenB := w.idpB.Mint(t, map[string]any{"scope": "orders.read"})
	_, unknown := w.wants("no tunnel", get(b, "no.such.host", tokenB), protocol.UnknownTunnel, RuleTunnel)
	for what, r := range map[string]*Request{
		"http":          get(b, orders, tokenB),
		"tcp":           connect(b, ledger, tokenB),
		"CONNECT to it": connect(b, orders, tokenB),
		"GET of tcp":    get(b, ledger, tokenB),
	} {
		d, hidden := w.decide(r)
		if hidden == nil || hidden.Code != unknown.Code || hidden.Sentence != unknown.Sentence || hidden.Sent != unknown.Sent || d.Tunnel != nil {
			t.Errorf("%s: got %+v %v, want the words of %v", what, d, hidden, unknown)
		}
		if d.Rule != RuleTrustDomain || hidden.Cause == nil {
			t.Errorf("%s: the log cannot tell: %s, %v", what, d.Rule, hidden.Cause)
		}
	}
	w.wants("its own tunnel", get(b, "b.dc1.example", tokenB), protocol.OK, RuleDefault)
	w.wants("open to anybody", withPath(get(b, "site.dc1.example", ""), "/public/x"), protocol.OK, RuleDefault)
}

func withPath(r *Request, path string) *Request {
	r.Path = path
	return r
}

func TestCallersAreMatchedBySegment(t *testing.T) { // H13
	w := newWorld(t)
	for _, id := range []string{"api-evil/shop", "api", "api/shop/deeper", "apis/shop", "agent/shop"} {
		_, refusal := w.wants(id, get(w.peer(w.cloud, "spiffe://cloud.example/"+id), orders, w.reader()), protocol.CallerDenied, RuleCallers)
		if refusal != nil && (!strings.Contains(refusal.Sentence, id) || strings.Contains(refusal.Sentence, "*")) {
			t.Errorf("got %q: the caller's own name is expected, and no rule", refusal.Sentence)
		}
	}
}

func TestTheProtocolIsToldOnlyToThoseWhoMayCall(t *testing.T) { // S06
	w := newWorld(t)
	w.wants("CONNECT to http", connect(w.api(), orders, ""), protocol.MethodNotAllowed, RuleProtocol)
	w.wants("GET of tcp", get(w.peer(w.cloud, "spiffe://cloud.example/api/billing"), ledger, ""), protocol.MethodNotAllowed, RuleProtocol)
	w.wants("GET of tcp, not a caller", get(w.api(), ledger, ""), protocol.CallerDenied, RuleCallers)
	w.wants("CONNECT to an open http", connect(nil, "site.dc1.example", ""), protocol.MethodNotAllowed, RuleProtocol)
	w.wants("CONNECT to http of many paths", connect(w.api(), "site.dc1.example", ""), protocol.MethodNotAllowed, RuleProtocol)
}

func TestOnlyOpenTunnelsAreThereForNobody(t *testing.T) {
	w := newWorld(t)
	w.wants("open path", withPath(get(nil, "site.dc1.example", ""), "/public/logo"), protocol.OK, RuleDefault)
	w.wants("closed path", withPath(get(nil, "site.dc1.example", ""), "/private"), protocol.CallerUnknown, RuleSVID)
	w.wants("closed path, with an SVID", withPath(get(w.api(), "site.dc1.example", ""), "/private"), protocol.OK, RuleDefault)
}

func TestAClosedTunnelUnderAnOpenOneIsNotThereForNobody(t *testing.T) {
	w := newWorld(t)
	hosts := []tunnel.Host{"site.dc1.example"}
	w.serve(
		&tunnel.Tunnel{Name: "open", Network: protocol.HTTP, Hosts: hosts, AnyCaller: true},
		&tunnel.Tunnel{Name: "staff", Network: protocol.HTTP, Hosts: hosts, PathPrefix: "/staff", Callers: w.patterns("spiffe://cloud.example/api/*")},
	)
	d, _ := w.wants("nobody", withPath(get(nil, "site.dc1.example", ""), "/staff"), protocol.OK, RuleDefault)
	if d.Tunnel.Name != "open" {
		t.Errorf("nobody came to %s", d.Tunnel.Name)
	}
	d, _ = w.wants("staff", withPath(get(w.api(), "site.dc1.example", ""), "/staff"), protocol.OK, RuleDefault)
	if d.Tunnel.Name != "staff" {
		t.Errorf("staff came to %s", d.Tunnel.Name)
	}
}

func TestTheTokenIsAskedAfterTheCaller(t *testing.T) { // J01
	w := newWorld(t)
	two := get(w.api(), orders, w.reader())
	two.Header.Add("Authorization", "Bearer "+w.reader())
	inQuery := get(w.api(), orders, "")
	inQuery.RawQuery = "access_token=" + w.reader()
	w.wants("none", get(w.api(), orders, ""), protocol.TokenMissing, RuleToken)
	w.wants("in the query", inQuery, protocol.TokenMissing, RuleToken)
	w.wants("two", two, protocol.BadRequest, RuleToken)
	w.wants("garbage", get(w.api(), orders, "garbage"), protocol.TokenInvalid, RuleToken)
	w.wants("1 MiB", get(w.api(), orders, strings.Repeat("a", 1<<20)), protocol.TokenInvalid, RuleToken)
	w.wants("wrong audience", get(w.api(), orders, w.idp.Mint(t, map[string]any{"aud": "other"})), protocol.TokenInvalid, RuleToken)
	w.wants("expired", get(w.api(), orders, w.idp.Mint(t, map[string]any{"exp": 1})), protocol.TokenInvalid, RuleToken)
	w.wants("in Proxy-Authorization of a GET", proxyOnly(get(w.api(), orders, w.reader())), protocol.TokenMissing, RuleToken)
	w.wants("wrong caller, no token", get(w.peer(w.cloud, "spiffe://cloud.example/x"), orders, ""), protocol.CallerDenied, RuleCallers)
}

func proxyOnly(r *Request) *Request {
	r.Header = http.Header{"Proxy-Authorization": r.Header["Authorization"]}
	return r
}

func TestATokenOfAnotherTunnelsIssuerIsRefused(t *testing.T) { // J03, J17
	w := newWorld(t)
	token := w.idpB.Mint(t, map[string]any{"scope": "orders.read"})
	_, refusal := w.wants("another issuer", get(w.api(), orders, token), protocol.TokenInvalid, RuleToken)
	if refusal == nil || !strings.Contains(refusal.Sentence, w.idp.URL) {
		t.Errorf("got %v, want it to name the issuer that is expected", refusal)
	}
}

func TestABoundTokenNeedsItsCaller(t *testing.T) { // J14
	w := newWorld(t)
	token := w.idp.Mint(t, map[string]any{"scope": "orders.read", "cnf": map[string]string{"x5t#S256": "another"}})
	w.wants("bound", get(w.api(), orders, token), protocol.TokenInvalid, RuleToken)
}

func TestMissingScopesAreNamed(t *testing.T) { // J15
	w := newWorld(t)
	_, refusal := w.wants("no scope", get(w.api(), orders, w.idp.Mint(t, map[string]any{"scope": "orders.write"})), protocol.ScopeMissing, RuleScopes)
	if refusal == nil || refusal.Sentence != "this tunnel wants scope orders.read" {
		t.Errorf("got %v", refusal)
	}
}

func TestThePolicyIsAskedLast(t *testing.T) { // J15
	w := newWorld(t)
	post := get(w.api(), orders, w.reader())
	post.Method = "POST"
	_, refusal := w.wants("POST by a reader", post, protocol.Denied, RuleAllow)
	if refusal != nil && strings.Contains(refusal.Sentence, "orders.write") {
		t.Errorf("the expression shows: %q", refusal.Sentence)
	}
	post.Header.Set("Authorization", "Bearer "+w.idp.Mint(t, map[string]any{"scope": "orders.read orders.write"}))
	w.wants("POST by a writer", post, protocol.OK, RuleAllow)
}

func TestAnExpressionThatCannotBeEvaluatedDenies(t *testing.T) {
	w := newWorld(t)
	w.serve(&tunnel.Tunnel{
		Name: "a", Network: protocol.HTTP, Hosts: []tunnel.Host{orders}, AnyCaller: true,
		Allow: `int(request.headers["x-level"][0]) > 3`,
	})
	r := get(w.api(), orders, "")
	w.wants("no header", r, protocol.Denied, RuleAllow)
	r.Header.Set("X-Level", "4")
	w.wants("a number", r, protocol.OK, RuleAllow)
	r.Header.Set("X-Level", "high")
	w.wants("no number", r, protocol.Denied, RuleAllow)
}

func TestWhatAnExpressionQuotesOfTheRequestIsFitForALog(t *testing.T) { // O06
	w := newWorld(t)
	w.serve(&tunnel.Tunnel{
		Name: "a", Network: protocol.HTTP, Hosts: []tunnel.Host{orders}, AnyCaller: true,
		Allow: `request.headers[request.headers["x"][0]] == ["a"]`,
	})
	r := get(w.api(), orders, "")
	r.Header.Set("X", "\x1b[31m\n\u2028"+strings.Repeat("a", 1<<20))
	_, refusal := w.wants("a key that is not there", r, protocol.Denied, RuleAllow)
	if refusal == nil || len(refusal.Error()) > 1000 || strings.ContainsAny(refusal.Error(), "\x1b\n\u2028") || !strings.Contains(refusal.Error(), "[31m") {
		t.Errorf("got %.300q", refusal)
	}
}

func (f fixed) VerifyFrom(context.Context, string, string) (*bearer.Token, error) { return nil, f.err }

func TestWhatIsNeededToDecideBeingAwayIsANo(t *testing.T) { // J11
	w := newWorld(t)
	gate := *w.gate
	gate.tokens = fixed{err: bearer.ErrUnavailable}
	w.gate = &gate
	w.wants("keys", get(w.api(), orders, w.reader()), protocol.IdentityUnavailable, RuleToken)
	gate.tokens = fixed{err: context.Canceled}
	w.wants("a verifier that gave up", get(w.api(), orders, w.reader()), protocol.IdentityUnavailable, RuleToken)
	gate.tokens, gate.allows = w.tokens, nil
	w.wants("the policy", get(w.api(), orders, w.reader()), protocol.PolicyUnavailable, RuleAllow)
	gate.source = &away{w.source}
	w.wants("bundles", get(w.api(), orders, w.reader()), protocol.IdentityUnavailable, RuleSVID)
}

func TestATrustDomainThatIsTakenAwayStopsTheNextRequest(t *testing.T) { // H10
	w := newWorld(t)
	peer := w.api()
	w.wants("before", get(peer, orders, w.reader()), protocol.OK, RuleAllow)
	w.source.Distrust(w.cloud.TrustDomain())
	w.wants("after", get(peer, orders, w.reader()), protocol.CallerUnknown, RuleSVID)
}

func TestAUnixSocketLeadsToItsTunnelOnly(t *testing.T) {
	w := newWorld(t)
	as := func(id, name, host string) *Request {
		r := get(nil, host, w.reader())
		r.As, r.Tunnel = w.id(id), protocol.TunnelName(name)
		return r
	}
	d, _ := w.wants("its own", as("spiffe://cloud.example/api/local", "orders", "localhost"), protocol.OK, RuleAllow)
	if d.Tunnel.Name != "orders" || d.Principal.Caller.Path() != "/api/local" {
		t.Errorf("got %+v", d)
	}
	d, _ = w.wants("another Host", as("spiffe://cloud.example/api/local", "orders", "site.dc1.example"), protocol.OK, RuleAllow)
	if d.Tunnel.Name != "orders" {
		t.Errorf("the Host led to %s", d.Tunnel.Name)
	}
	w.wants("an identity that is not let in", as("spiffe://cloud.example/x", "orders", orders), protocol.CallerDenied, RuleCallers)
	w.wants("no such tunnel", as("spiffe://cloud.example/api/local", "gone", orders), protocol.UnknownTunnel, RuleTunnel)
	w.wants("outside of its path", as("spiffe://cloud.example/api/local", "site", orders), protocol.UnknownTunnel, RuleTunnel)
}

func TestRefusalsSayNothingOfTheInside(t *testing.T) {
	w := newWorld(t)
	secret := w.reader()
	for _, r := range []*Request{
		get(nil, orders, secret), get(w.peer(w.cloud, "spiffe://cloud.example/x"), orders, secret),
		get(w.api(), orders, w.idpB.Mint(t, nil)), get(w.api(), orders, secret[:len(secret)-4]+"AAAA"), connect(w.api(), orders, secret),
		get(w.peer(w.evil, "spiffe://evil.example/x"), orders, secret), get(w.peer(w.tenantB, "spiffe://tenant-b.example/x"), orders, secret),
	} {
		_, refusal := w.decide(r)
		if refusal == nil {
			t.Fatal("let pass")
		}
		for _, inside := range []string{"api/*", "agent", "backend", "tenant-b.example/**", "billing"} {
			if strings.Contains(refusal.Sentence, inside) {
				t.Errorf("%q contains %q", refusal.Sentence, inside)
			}
		}
		if token := r.Header.Get("Authorization"); token != "" && strings.Contains(refusal.Error(), token[len("Bearer "):]) {
			t.Errorf("the log would contain the token: %v", refusal)
		}
	}
}

func TestAGateIsNotMadeOfFaultyTunnels(t *testing.T) {
	w := newWorld(t)
	table, err := tunnel.NewTable([]*tunnel.Tunnel{
		{Name: "a", Network: protocol.HTTP, Allow: "nonsense"},
		{Name: "b", Network: protocol.HTTP, Authenticate: tunnel.WantToken(&tunnel.TokenRule{Issuer: "x"})},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{Table: table, Source: w.source})
	if err == nil || !strings.Contains(err.Error(), "tunnel a: allow: 1:1: ") || !strings.Contains(err.Error(), "tunnel b: a token is wanted") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("made a gate of nothing")
	}
}

func TestARefusalIsAlwaysCoded(t *testing.T) {
	w := newWorld(t)
	_, err := w.gate.Decide(t.Context(), get(nil, "", ""))
	if !errors.Is(err, &protocol.Error{Code: protocol.CallerUnknown}) {
		t.Errorf("got %v", err)
	}
	_, err = w.gate.Decide(t.Context(), get(w.api(), orders, w.reader()))
	if err != nil { // a typed nil would not be
		t.Errorf("got %v", err)
	}
}
