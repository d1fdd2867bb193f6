package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/registry"
	"github.com/fairlead/fairlead/relay/internal/route"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// rig is a gateway behind a real TLS server, with real rules and no agent yet.
type rig struct {
	*Gateway
	t        testing.TB
	registry *registry.Registry
	server   *httptest.Server
	ca       *certstest.CA
	log      *lockedBuffer
	source   *certstest.Source
	gate     *policy.Gate
	regate   func(authn.Apps, policy.Tokens) // makes the gate anew

	mu      sync.Mutex
	records []Record
	proved  int
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// words are grants that say in plain words whom they are for.
type words struct{}

func (words) Sign(g *grant.Grant, _ time.Time) ([]byte, error) {
	return fmt.Appendf(nil, "%s %s %s", g.Tunnel, g.Caller, g.User), nil
}

// tokens knows one token.
type tokens struct{}

const goodToken, issuerURL = "good.token.value", "https://idp.example"

func (tokens) VerifyFrom(_ context.Context, _, raw string) (*bearer.Token, error) {
	if raw != goodToken {
		return nil, &bearer.InvalidError{Reason: "not the one"}
	}
	return &bearer.Token{Issuer: issuerURL, Subject: "alice", Scopes: []string{"orders.read"}}, nil
}

func mustPattern(s string) certs.Pattern {
	p, err := certs.ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

func tunnels(change func(name string, t *tunnel.Tunnel)) []*tunnel.Tunnel {
	var all []*tunnel.Tunnel
	for _, name := range []string{"orders", "secured", "scoped", "forward", "small", "public", "ledger", "narrow"} {
		t := &tunnel.Tunnel{
			Name: protocol.TunnelName(name), Network: protocol.HTTP, Hosts: []tunnel.Host{tunnel.Host(name + ".dc1.example")},
			Callers: certs.Patterns{mustPattern("spiffe://cloud.example/api/*")}, Timeout: 5 * time.Second,
		}
		switch name {
		case "secured", "forward":
			t.Authenticate, t.ForwardToken = tunnel.WantToken(&tunnel.TokenRule{Issuer: issuerURL}), name == "forward"
		case "scoped":
			t.Authenticate = tunnel.WantToken(&tunnel.TokenRule{Issuer: issuerURL, Scopes: []string{"orders.write"}})
		case "small":
			t.Body = 1000
		case "public":
			t.AnyCaller = true
		case "ledger":
			t.Network = protocol.TCP
		case "narrow":
			t.Concurrent = 1
		}
		if change != nil {
			change(name, t)
		}
		all = append(all, t)
	}
	return all
}

type connKey struct{}

func newRig(t testing.TB, change func(name string, t *tunnel.Tunnel)) *rig {
	r := &rig{t: t, ca: certstest.NewCA(t, "cloud.example"), log: new(lockedBuffer)}
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.source = certstest.NewSource(r.ca.Issue(t, "spiffe://cloud.example/relay/a", certstest.DNS("relay.example")), r.ca)
	table, err := tunnel.NewTable(tunnels(change))
	if err != nil {
		t.Fatal(err)
	}
	r.regate = func(apps authn.Apps, verifier policy.Tokens) {
		t.Helper()
		if r.gate, err = policy.New(policy.Config{Table: table, Source: r.source, Tokens: verifier, Apps: apps}); err != nil {
			t.Fatal(err)
		}
	}
	r.regate(nil, tokens{})
	r.registry, err = registry.New(registry.Config{Owns: func(protocol.TunnelName, certs.ID) bool { return true }, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	router, err := route.New(route.Config{Registry: r.registry, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway, err = New(Config{Gate: r.rules, Router: router, Grants: words{}, Proof: r.proof, Observe: r.observe, Log: log, Limits: Limits{MinBodyGrace: 500 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(r.Gateway)
	r.server.TLS = certs.CallerConfig(r.source, nil, []string{"h2", "http/1.1"})
	r.server.EnableHTTP2 = true
	r.server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	r.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

// rules are the gate in force.
func (r *rig) rules() Gate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gate
}

func (r *rig) proof(ctx context.Context) Proof {
	conn := ctx.Value(connKey{}).(*tls.Conn)
	return Proof{
		Peer:   authn.NewPeer(conn.ConnectionState().PeerCertificates),
		Source: netip.MustParseAddrPort(conn.RemoteAddr().String()),
		Proved: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.proved++
		},
	}
}

func (r *rig) observe(rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
}

// recorded waits for n records, and returns them.
func (r *rig) recorded(n int) []Record {
	r.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		got := append([]Record(nil), r.records...)
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d calls were recorded, expected %d", len(got), n)
		}
	}
}

// serve starts an agent for every tunnel.
func (r *rig) serve(h routetest.Handler) *routetest.Agent {
	r.t.Helper()
	id, err := certs.ParseID("spiffe://dc1.example/agent/a")
	if err != nil {
		r.t.Fatal(err)
	}
	return routetest.Start(r.t, r.registry, routetest.Options{ID: id}, h,
		"orders", "secured", "scoped", "forward", "small", "public", "ledger", "narrow")
}

// backend starts a real server and an agent that carries to it.
func (r *rig) backend(h http.HandlerFunc) *routetest.Agent {
	r.t.Helper()
	s := httptest.NewServer(h)
	r.t.Cleanup(s.Close)
	return r.serve(routetest.HTTP(s.Listener.Addr().String()))
}

// tlsConfig is that of a caller with the given SVID, "" for none.
func (r *rig) tlsConfig(id string, alpn ...string) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: alpn}
	if id != "" {
		cfg.Certificates = []tls.Certificate{r.ca.Issue(r.t, id)}
	}
	return cfg
}

const caller = "spiffe://cloud.example/api/shop"

// client is a caller's, over HTTP/1.1 or HTTP/2.
func (r *rig) client(id string, h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	t := &http.Transport{TLSClientConfig: r.tlsConfig(id), Protocols: p, DisableCompression: true, ExpectContinueTimeout: time.Minute}
	r.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// request is one to a tunnel.
func (r *rig) request(method, tunnel, path string, body io.Reader) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = tunnel + ".dc1.example"
	return req
}

// do sends a request as a good caller over HTTP/1.1, and returns the answer with its whole body.
func (r *rig) do(req *http.Request) (*http.Response, string) {
	r.t.Helper()
	return do(r.t, r.client(caller, false), req)
}

func do(t testing.TB, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// wantProblem checks an answer against design §5: one word everywhere.
func (r *rig) wantProblem(res *http.Response, body string, status int, code protocol.Code) problem {
	r.t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		r.t.Fatalf("status %d, body %q: %v", res.StatusCode, body, err)
	}
	id := res.Header.Get("Fairlead-Call-Id")
	if res.StatusCode != status || p.Status != status || p.Code != code.String() || p.CallID != id || len(id) != 26 {
		r.t.Fatalf("status %d, problem %+v, call id %q; expected %d %v", res.StatusCode, p, id, status, code)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		r.t.Errorf("content type %q", ct)
	}
	ps := res.Header.Get("Proxy-Status")
	if !strings.HasPrefix(ps, "fairlead; error=") || !strings.Contains(ps, `details="`+code.String()+`"`) || !strings.Contains(ps, id) {
		r.t.Errorf("Proxy-Status %q", ps)
	}
	if n := r.lines(id, code.String()); n != 1 {
		r.t.Errorf("%d lines of call %s with code %v in the log, expected 1:\n%s", n, id, code, r.log)
	}
	return p
}

// lines counts the log's lines above debug that name both a call and a code.
func (r *rig) lines(id, code string) (n int) {
	for line := range strings.SplitSeq(r.log.String(), "\n") {
		if !strings.Contains(line, `"level":"DEBUG"`) && strings.Contains(line, `"call_id":"`+id+`"`) && strings.Contains(line, `"code":"`+code+`"`) {
			n++
		}
	}
	return n
}

// bare is the rig's gateway, with one caller and without TLS or a log.
func (r *rig) bare() *Gateway {
	r.t.Helper()
	log := slog.New(slog.DiscardHandler)
	router, err := route.New(route.Config{Registry: r.registry, Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(r.ca.Issue(r.t, caller).Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	proof := Proof{
		Peer: authn.NewPeer([]*x509.Certificate{leaf}), Source: netip.MustParseAddrPort("192.0.2.1:4711"), Proved: func() {},
	}
	g, err := New(Config{Gate: r.rules, Router: router, Grants: words{}, Proof: func(context.Context) Proof { return proof }, Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}
