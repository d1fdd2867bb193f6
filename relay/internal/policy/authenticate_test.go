package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// asking serves the tunnel orders, which asks for these proofs.
func (w *world) asking(r *tunnel.Require) {
	w.tb.Helper()
	w.serve(&tunnel.Tunnel{Name: "orders", Network: protocol.HTTP, Hosts: []tunnel.Host{orders}, Callers: w.patterns("spiffe://cloud.example/api/*"), Authenticate: r})
}

// token is a request with a token that says more than a usual one.
func (w *world) token(claims map[string]any) *Request {
	w.tb.Helper()
	return get(w.api(), orders, w.idp.Mint(w.tb, claims))
}

func (w *world) wantsChallenge(what string, d *Decision, parts ...string) {
	w.tb.Helper()
	all := strings.Join(d.Challenges, "\n")
	for _, part := range parts {
		if !strings.Contains(all, part) {
			w.tb.Errorf("%s: no %s in the challenges %q", what, part, d.Challenges)
		}
	}
	if len(parts) == 0 && all != "" {
		w.tb.Errorf("%s: challenges %q", what, d.Challenges)
	}
}

func TestRolesAndGroupsAreAskedOfTheToken(t *testing.T) { // J15
	w := newWorld(t)
	w.asking(tunnel.WantToken(&tunnel.TokenRule{Issuer: w.idp.URL, Scopes: []string{"orders.read"},
		Claims: []tunnel.ClaimRule{{Name: "groups", Any: []string{"clerks", "admins"}}, {Name: "realm_access.roles", Any: []string{"reader"}}}}))
	good := map[string]any{"scope": "orders.read", "groups": []string{"people", "admins"}, "realm_access": map[string]any{"roles": "reader"}}
	with := func(name string, value any) map[string]any {
		c := map[string]any{name: value}
		for k, v := range good {
			if k != name {
				c[k] = v
			}
		}
		return c
	}
	w.wants("good", w.token(good), protocol.OK, RuleDefault)
	for what, claims := range map[string]map[string]any{
		"another group": with("groups", []string{"people"}), "no group": with("groups", nil), "a number": with("groups", 7),
		"part of a name": with("groups", "admins-of-nothing"), "no object": with("realm_access", "reader"), "another role": with("realm_access", map[string]any{"roles": []string{"writer"}}),
	} {
		d, _ := w.wants(what, w.token(claims), protocol.ScopeMissing, RuleClaims)
		w.wantsChallenge(what, d, `error="insufficient_scope"`)
	}
	d, _ := w.wants("no scope", w.token(with("scope", "else")), protocol.ScopeMissing, RuleScopes)
	w.wantsChallenge("no scope", d, `scope="orders.read"`)
}

func TestAWeakLoginGetsTheChallengeOfAStrongerOne(t *testing.T) { // RFC 9470; J15
	w := newWorld(t)
	w.asking(tunnel.WantToken(&tunnel.TokenRule{Issuer: w.idp.URL, ACR: []string{"gold", "silver"}, AMR: []string{"pwd", "otp"}, MaxAge: 10 * time.Minute}))
	good := map[string]any{"acr": "silver", "amr": []string{"otp", "pwd"}, "auth_time": time.Now().Add(-time.Minute).Unix()}
	with := func(name string, value any) map[string]any {
		c := map[string]any{name: value}
		for k, v := range good {
			if k != name {
				c[k] = v
			}
		}
		return c
	}
	d, _ := w.wants("good", w.token(good), protocol.OK, RuleDefault)
	if g := d.Principal.Grant("orders"); g.ACR != "silver" || len(g.AMR) != 2 {
		t.Errorf("the grant does not say how the user has logged in: %+v", g)
	}
	for what, claims := range map[string]map[string]any{
		"a weaker class": with("acr", "bronze"), "no class": with("acr", nil), "one factor": with("amr", []string{"pwd"}), "no factors": with("amr", nil),
		"long ago": with("auth_time", time.Now().Add(-time.Hour).Unix()), "no time": with("auth_time", nil), "a time in words": with("auth_time", "now"),
	} {
		d, _ := w.wants(what, w.token(claims), protocol.MFARequired, RuleStepUp)
		w.wantsChallenge(what, d, `error="insufficient_user_authentication"`, `acr_values="gold silver"`, `max_age="600"`)
	}
}

// dpopKey proves itself as RFC 9449 says; x is its half of a JWK.
type dpopKey struct {
	*ecdsa.PrivateKey
	jwk string
}

func newDPoPKey(t testing.TB) *dpopKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return &dpopKey{key, fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, b64(b[1:33]), b64(b[33:]))}
}

func (k *dpopKey) thumbprint() string {
	sum := sha256.Sum256([]byte(k.jwk))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (k *dpopKey) prove(t testing.TB, r *Request, token string) {
	t.Helper()
	sum := sha256.Sum256([]byte(token))
	p := &jwt.Token{Method: jwt.SigningMethodES256, Header: map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": raw(k.jwk)},
		Claims: jwt.MapClaims{"jti": rand.Text(), "htm": r.Method, "htu": "https://" + r.Host + r.Path, "iat": time.Now().Unix(), "ath": base64.RawURLEncoding.EncodeToString(sum[:])}}
	s, err := p.SignedString(k.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Dpop"] = append(r.Header["Dpop"], s)
}

type raw string

func (r raw) MarshalJSON() ([]byte, error) { return []byte(r), nil }

func TestATokenThatIsBoundByDPoPNeedsAProofOfEachRequest(t *testing.T) { // J14
	w, key, thief := newWorld(t), newDPoPKey(t), newDPoPKey(t)
	w.asking(tunnel.WantToken(&tunnel.TokenRule{Issuer: w.idp.URL, Bound: true}))
	bound := w.idp.Mint(t, map[string]any{"cnf": map[string]any{"jkt": key.thumbprint()}})
	request := func(scheme, token string, prove ...*dpopKey) *Request {
		r := get(w.api(), orders, "")
		r.Scheme = "https"
		r.Header.Set("Authorization", scheme+" "+token)
		for _, k := range prove {
			k.prove(t, r, token)
		}
		return r
	}
	good := request("DPoP", bound, key)
	w.wants("good", good, protocol.OK, RuleDefault)
	d, _ := w.wants("again", good, protocol.TokenInvalid, RuleToken)
	w.wantsChallenge("again", d, `DPoP realm="fairlead", algs="`, `error="invalid_token"`)
	elsewhere := request("DPoP", bound, key)
	elsewhere.Path = "/v2"
	plain := request("DPoP", bound, key)
	plain.Scheme = "http"
	for what, r := range map[string]*Request{
		"no proof": request("DPoP", bound), "two proofs": request("DPoP", bound, key, key), "a thief's proof": request("DPoP", bound, thief),
		"as a bearer token": request("Bearer", bound, key), "for another path": elsewhere, "for another scheme": plain,
		"a token that is bound to nobody": request("Bearer", w.reader()), "the same, with a proof": request("DPoP", w.reader(), key),
		"bound to another certificate": request("Bearer", w.idp.Mint(t, map[string]any{"cnf": map[string]any{"x5t#S256": "x"}})),
	} {
		w.wants(what, r, protocol.TokenInvalid, RuleToken)
	}
	own := w.api()
	sum, _ := own.Thumbprint()
	r := request("Bearer", w.idp.Mint(t, map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}}))
	r.Peer = own
	w.wants("bound to the caller's certificate", r, protocol.OK, RuleDefault)
}

func (w *world) withApps() {
	sum := sha256.Sum256([]byte("secret"))
	w.apps = authn.Apps{"shop": {ID: "shop", Secrets: [][sha256.Size]byte{sum}, Tunnels: []protocol.TunnelName{"orders"}, Tier: "gold"},
		"other": {ID: "other", Secrets: [][sha256.Size]byte{sum}, Tunnels: []protocol.TunnelName{"ledger"}}}
}

func basicAuth(r *Request, id, secret string) *Request {
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	return r
}

func TestAnAppShowsItsSecretAndHasAContract(t *testing.T) {
	w := newWorld(t)
	w.withApps()
	w.asking(&tunnel.Require{App: new(tunnel.AppRule)})
	d, _ := w.wants("good", basicAuth(get(w.api(), orders, ""), "shop", "secret"), protocol.OK, RuleDefault)
	if p := d.Principal; p.AppID() != "shop" || p.Grant("orders").App != "shop" {
		t.Errorf("%+v", p)
	}
	d, _ = w.wants("none", get(w.api(), orders, ""), protocol.CredentialsMissing, RuleApp)
	w.wantsChallenge("none", d, `Basic realm="fairlead"`)
	w.wants("bad", basicAuth(get(w.api(), orders, ""), "shop", "guess"), protocol.CredentialsInvalid, RuleApp)
	w.wants("unknown", basicAuth(get(w.api(), orders, ""), "nobody", "secret"), protocol.CredentialsInvalid, RuleApp)
	d, _ = w.wants("without a contract", basicAuth(get(w.api(), orders, ""), "other", "secret"), protocol.Denied, RuleApp)
	w.wantsChallenge("without a contract", d)
}

func TestProofsAreCombinedByAllAndAny(t *testing.T) {
	w := newWorld(t)
	w.withApps()
	token := &tunnel.Require{Token: &tunnel.TokenRule{Issuer: w.idp.URL}}
	tokenB := &tunnel.Require{Token: &tunnel.TokenRule{Issuer: w.idpB.URL}}
	app := &tunnel.Require{App: new(tunnel.AppRule)}
	both := func(r *Request) *Request {
		r.Header.Set(authn.HeaderClientID, "shop")
		r.Header.Set(authn.HeaderClientSecret, "secret")
		return r
	}
	other := w.idpB.Mint(t, nil)

	w.asking(&tunnel.Require{All: []*tunnel.Require{token, app}})
	w.wants("all: both", both(get(w.api(), orders, w.reader())), protocol.OK, RuleDefault)
	w.wants("all: no app", get(w.api(), orders, w.reader()), protocol.CredentialsMissing, RuleApp)
	w.wants("all: no token", both(get(w.api(), orders, "")), protocol.TokenMissing, RuleToken)

	w.asking(&tunnel.Require{Any: []*tunnel.Require{token, tokenB, app}})
	d, _ := w.wants("any: token", get(w.api(), orders, w.reader()), protocol.OK, RuleDefault)
	if p := d.Principal; p.Issuer() != w.idp.URL || p.App != nil {
		t.Errorf("%+v", p)
	}
	d, _ = w.wants("any: the other issuer's", get(w.api(), orders, other), protocol.OK, RuleDefault)
	if p := d.Principal; p.Issuer() != w.idpB.URL || d.Token != other {
		t.Errorf("%+v", p)
	}
	d, _ = w.wants("any: app", basicAuth(get(w.api(), orders, ""), "shop", "secret"), protocol.OK, RuleDefault)
	if p := d.Principal; p.AppID() != "shop" || p.Token != nil || d.Token != "" {
		t.Errorf("%+v", p)
	}
	d, _ = w.wants("any: none", get(w.api(), orders, ""), protocol.TokenMissing, RuleToken)
	w.wantsChallenge("any: none", d, "Bearer", "Basic")
	d, _ = w.wants("any: a bad secret", basicAuth(get(w.api(), orders, ""), "shop", "guess"), protocol.CredentialsInvalid, RuleApp)
	w.wantsChallenge("any: a bad secret", d, "Basic")
	w.wants("any: a bad token", get(w.api(), orders, "x.y.z"), protocol.TokenInvalid, RuleToken)

	// What half of an all has proved does not outlive its failure.
	w.asking(&tunnel.Require{Any: []*tunnel.Require{{All: []*tunnel.Require{token, app}}, token}})
	d, _ = w.wants("any of all", get(w.api(), orders, w.reader()), protocol.OK, RuleDefault)
	if d.Principal.App != nil {
		t.Errorf("%+v", d.Principal)
	}
	w.asking(&tunnel.Require{Any: []*tunnel.Require{{All: []*tunnel.Require{token, app}}, {SVID: true}}})
	d, _ = w.wants("any of all or an SVID", get(w.api(), orders, w.reader()), protocol.OK, RuleDefault)
	if d.Principal.Token != nil || d.Token != "" {
		t.Errorf("%+v", d.Principal)
	}

	w.serve(&tunnel.Tunnel{Name: "orders", Network: protocol.HTTP, Hosts: []tunnel.Host{orders}, AnyCaller: true, Authenticate: &tunnel.Require{Any: []*tunnel.Require{{SVID: true}, app}}})
	w.wants("SVID or app: SVID", get(w.api(), orders, ""), protocol.OK, RuleDefault)
	w.wants("SVID or app: app", basicAuth(get(nil, orders, ""), "shop", "secret"), protocol.OK, RuleDefault)
	d, _ = w.wants("SVID or app: neither", get(nil, orders, ""), protocol.CallerUnknown, RuleSVID)
	w.wantsChallenge("SVID or app: neither", d, "Basic")

	w.asking(new(tunnel.Require)) // which no file can say
	w.wants("a proof of no kind", get(w.api(), orders, w.reader()), protocol.PolicyUnavailable, RuleToken)
}
