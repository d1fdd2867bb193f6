package policy

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// world is a relay's trust, and who may come by: cloud.example calls tunnels, tenant-b.example is trusted and named by
// no tunnel but its own, evil.example is not trusted.
type world struct {
	tb                   testing.TB
	cloud, tenantB, evil *certstest.CA
	source               *certstest.Source
	idp, idpB            *certstest.Issuer
	tokens               *bearer.Verifier
	apps                 authn.Apps
	directories          map[string]Directory
	codes                map[string]Codes
	table                *tunnel.Table
	gate                 *Gate
}

const orders, ledger = "orders.dc1.example", "ledger.dc1.example"

func newWorld(tb testing.TB) *world {
	w := &world{
		tb:    tb,
		cloud: certstest.NewCA(tb, "cloud.example"), tenantB: certstest.NewCA(tb, "tenant-b.example"), evil: certstest.NewCA(tb, "evil.example"),
		idp: certstest.NewIssuer(tb, "https://idp.example"), idpB: certstest.NewIssuer(tb, "https://idp.tenant-b.example"),
	}
	w.source = certstest.NewSource(w.cloud.Issue(tb, "spiffe://cloud.example/relay/a"), w.cloud, w.tenantB)
	var err error
	w.tokens, err = bearer.New(bearer.Config{Issuers: []bearer.Issuer{
		{URL: w.idp.URL, Audiences: []string{"fairlead"}, JWKS: w.idp.WriteJWKS(tb, tb.TempDir())},
		{URL: w.idpB.URL, Audiences: []string{"fairlead"}, JWKS: w.idpB.WriteJWKS(tb, tb.TempDir())},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	read := &tunnel.TokenRule{Issuer: w.idp.URL, Scopes: []string{"orders.read"}}
	w.serve(
		&tunnel.Tunnel{
			Name: "orders", Network: protocol.HTTP, Hosts: []tunnel.Host{orders}, Authenticate: tunnel.WantToken(read),
			Callers: w.patterns("spiffe://cloud.example/api/*"),
			Allow:   `request.method == "GET" || "orders.write" in token.scopes`,
		},
		&tunnel.Tunnel{
			Name: "ledger", Network: protocol.TCP, Hosts: []tunnel.Host{ledger}, Authenticate: tunnel.WantToken(&tunnel.TokenRule{Issuer: w.idp.URL}),
			Callers: w.patterns("spiffe://cloud.example/api/billing"),
		},
		&tunnel.Tunnel{
			Name: "site", Network: protocol.HTTP, Hosts: []tunnel.Host{"site.dc1.example"}, PathPrefix: "/public", AnyCaller: true,
		},
		&tunnel.Tunnel{
			Name: "intranet", Network: protocol.HTTP, Hosts: []tunnel.Host{"site.dc1.example"},
			Callers: w.patterns("spiffe://cloud.example/api/*"),
		},
		&tunnel.Tunnel{
			Name: "b", Network: protocol.HTTP, Hosts: []tunnel.Host{"b.dc1.example"}, Authenticate: tunnel.WantToken(&tunnel.TokenRule{Issuer: w.idpB.URL}),
			Callers: w.patterns("spiffe://tenant-b.example/**"),
		},
	)
	return w
}

// serve replaces the tunnels.
func (w *world) serve(tunnels ...*tunnel.Tunnel) {
	w.tb.Helper()
	var err error
	if w.table, err = tunnel.NewTable(tunnels); err != nil {
		w.tb.Fatal(err)
	}
	if w.gate, err = New(Config{Table: w.table, Source: w.source, Tokens: w.tokens, Proofs: new(bearer.Proofs), Apps: w.apps, Directories: w.directories, Codes: w.codes}); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) patterns(all ...string) (ps certs.Patterns) {
	w.tb.Helper()
	for _, s := range all {
		p, err := certs.ParsePattern(s)
		if err != nil {
			w.tb.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

func (w *world) id(s string) certs.ID {
	w.tb.Helper()
	id, err := certs.ParseID(s)
	if err != nil {
		w.tb.Fatal(err)
	}
	return id
}

// peer is a connection that has shown an SVID.
func (w *world) peer(ca *certstest.CA, id string, options ...certstest.Option) *authn.Peer {
	w.tb.Helper()
	return authn.NewPeer([]*x509.Certificate{ca.Issue(w.tb, id, options...).Leaf})
}

// api is the usual caller.
func (w *world) api() *authn.Peer { return w.peer(w.cloud, "spiffe://cloud.example/api/shop") }

// reader is a token with orders.read.
func (w *world) reader() string { return w.idp.Mint(w.tb, map[string]any{"scope": "orders.read"}) }

// get is a GET of a host's /v1, with a token unless it is "".
func get(peer *authn.Peer, host, token string) *Request {
	r := &Request{
		Network: protocol.HTTP, Host: host, Method: "GET", Path: "/v1", Header: http.Header{}, Peer: peer,
		Source: netip.MustParseAddr("192.0.2.7"),
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// connect is a CONNECT to a host, with a token unless it is "".
func connect(peer *authn.Peer, host, token string) *Request {
	r := get(peer, host+":5432", "")
	r.Network, r.Method, r.Path, r.Proxy = protocol.TCP, "CONNECT", "", true
	if token != "" {
		r.Header.Set("Proxy-Authorization", "Bearer "+token)
	}
	return r
}

// decide checks what is always so, and returns the refusal, nil for yes.
func (w *world) decide(r *Request) (*Decision, *protocol.Error) {
	w.tb.Helper()
	d, err := w.gate.Decide(w.tb.Context(), r)
	if d == nil || d.Rule == "" {
		w.tb.Fatalf("got the decision %+v with %v", d, err)
	}
	if err == nil {
		if d.Tunnel == nil {
			w.tb.Fatalf("let pass to no tunnel: %+v", d)
		}
		return d, nil
	}
	refusal, ok := errors.AsType[*protocol.Error](err)
	if !ok || refusal.Sentence == "" || refusal.Sent {
		w.tb.Fatalf("got %#v", err)
	}
	return d, refusal
}

// wants checks code and rule of a decision; code OK is yes.
func (w *world) wants(what string, r *Request, code protocol.Code, rule string) (*Decision, *protocol.Error) {
	w.tb.Helper()
	d, refusal := w.decide(r)
	got := protocol.OK
	if refusal != nil {
		got = refusal.Code
	}
	if got != code || d.Rule != rule {
		w.tb.Errorf("%s: got %v by %s, want %v by %s (%v)", what, got, d.Rule, code, rule, refusal)
	}
	return d, refusal
}

// fixed is a verifier with one answer.
type fixed struct {
	*bearer.Verifier
	err error
}

// away is a source whose bundles cannot be read now.
type away struct{ *certstest.Source }

func (*away) Roots(certs.TrustDomain) (*x509.CertPool, error) {
	return nil, errors.New("disk is on fire")
}

var past = certstest.NotAfter(time.Now().Add(-time.Hour))
