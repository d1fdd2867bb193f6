//go:build linux

package e2e

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

const (
	// shortLife is that of the SVIDs which these tests rotate.
	shortLife = 8 * time.Second
	rotations = 100
)

// apis are the Workload APIs of a site's two halves.
type apis struct {
	*site
	relay, agent *certstest.WorkloadAPI
}

// overWorkloadAPI makes the halves take their identities from Workload APIs, each federated with the other.
func (s *site) overWorkloadAPI(t *testing.T) *apis {
	t.Helper()
	a := &apis{site: s, relay: certstest.NewWorkloadAPI(t), agent: certstest.NewWorkloadAPI(t)}
	s.relay.edit(t, "identity: {svid: {cert: relay.crt, key: relay.key}}", "identity: {workload_api: '"+a.relay.Address+"'}")
	s.relay.edit(t, "trust:\n  cloud.example: {bundle: cloud.pem}\n  dc1.example: {bundle: dc1.pem}\n", "")
	s.agent.edit(t, "identity: {svid: {cert: agent.crt, key: agent.key}}", "identity: {workload_api: '"+a.agent.Address+"'}")
	s.agent.edit(t, "trust: {cloud.example: {bundle: cloud.pem}}\n", "")
	return a
}

// rotate gives both halves SVIDs that live for shortLife.
func (a *apis) rotate(t *testing.T) {
	t.Helper()
	end := certstest.NotAfter(time.Now().Add(shortLife))
	a.relay.Serve(a.cloud, relayID, []*certstest.CA{a.dc}, certstest.DNS("*.dc1.example"), end)
	a.agent.Serve(a.dc, agentID, []*certstest.CA{a.cloud}, end)
}

// TestASessionOutlivesAHundredSVIDs rotates the SVIDs of both halves a hundred times, over several of their lives, while
// HTTP calls run and a psql session stands: no call fails, the session stays the same, and no link ends. It does so for
// each kind of link.
func TestASessionOutlivesAHundredSVIDs(t *testing.T) {
	for kind, keys := range map[string]string{
		"lanes": "transport: tcp", "yamux": "transport: tcp\nlimits: {lanes: 0}", "QUIC": "transport: quic",
	} {
		t.Run(kind, func(t *testing.T) {
			db, api := servers.StartPostgres(t, new(servers.Loopback)), servers.StartOrders(t, new(servers.Loopback))
			s := newSite(t, options{agent: keys}, ordersTunnel(api), tunnel{name: "ledger", protocol: "tcp", backend: "tcp://" + db.Addr.String()})
			w := s.overWorkloadAPI(t)
			w.rotate(t)
			s.start(t)
			l := &ledger{Postgres: db, psql: process.Program(t, "psql", "postgresql-client"), through: s.connect(t, nil, "ledger")}
			session := l.open(t)
			first := session.ask(t, "select 'pid=' || pg_backend_pid();", `pid=\d+`)

			var running sync.WaitGroup
			stop := make(chan struct{})
			for _, v := range []version{h1, h2} {
				c := s.caller(t, nil, billingID, v)
				running.Go(func() {
					calls := 0
					for ; ; calls++ {
						select {
						case <-stop:
							t.Logf("%v: %d calls", v, calls)
							return
						default:
						}
						if a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"}); err != nil || a.StatusCode != http.StatusOK {
							t.Errorf("%v: after %d calls: %v, %v", v, calls, a.body, err)
							return
						}
					}
				})
			}
			for range rotations {
				time.Sleep(2 * shortLife / rotations) // the passing of several lives is this test's subject
				w.rotate(t)
			}
			close(stop)
			running.Wait()
			if again := session.ask(t, "select 'pid=' || pg_backend_pid();", `pid=\d+`); again != first {
				t.Errorf("the session has another backend: %s, then %s", first, again)
			}
			for _, p := range []*program{s.relay, s.agent} {
				for _, ended := range []string{"link lost", "identity_expired", "newer SVID is refused"} {
					if strings.Contains(p.Log().String(), ended) {
						t.Errorf("%s says %q", p.name, ended)
					}
				}
			}
		})
	}
}

// TestAJWTSVIDIsATokenWhereItsTrustDomainIsAnIssuer takes the keys from the relay's Workload API, as they turn over.
func TestAJWTSVIDIsATokenWhereItsTrustDomainIsAnIssuer(t *testing.T) {
	u := ordersTunnel(servers.StartOrders(t, new(servers.Loopback)))
	u.token = "{issuer: spiffe://cloud.example}"
	s := newSite(t, options{}, u)
	s.relay.edit(t, "tokens:\n", "tokens:\n  - {issuer: spiffe://cloud.example, audiences: [fairlead]}\n")
	w, signer := s.overWorkloadAPI(t), certstest.NewIssuer(t, "spiffe://cloud.example")
	w.relay.ServeJWT(s.cloud, signer)
	w.rotate(t)
	s.start(t)
	c := s.caller(t, nil, billingID, h1)
	mint := func(claims map[string]any) string {
		token, err := signer.Sign(map[string]any{"typ": "JWT"}, claims)
		if err != nil {
			t.Fatal(err)
		}
		s.secret(token[strings.LastIndexByte(token, '.')+1:])
		return token
	}
	own := map[string]any{"iss": nil, "sub": billingID}
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders", token: mint(own)})
	for name, token := range map[string]string{
		"another trust domain's": mint(map[string]any{"iss": nil, "sub": agentID}), "another issuer's": s.token(t, "orders.use"),
	} {
		if a := c.must(t, http.StatusUnauthorized, call{tunnel: "orders", path: "/v1/orders", token: token}); a.code() != "token_invalid" {
			t.Errorf("%s: got %s", name, a.body)
		}
	}
	old := mint(own)
	signer.Rotate(t, false)
	w.relay.ServeJWT(s.cloud, signer)
	within(t, time.Minute, "the new key counts", func(context.Context) error {
		if a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders", token: mint(own)}); err != nil || a.StatusCode != http.StatusOK {
			return errNotYet
		}
		return nil
	})
	c.must(t, http.StatusUnauthorized, call{tunnel: "orders", path: "/v1/orders", token: old})
}

// A psql is one that runs, and is spoken to.
type psql struct {
	*process.Process
	in  io.Writer
	ctx context.Context
}

func (l *ledger) open(t *testing.T) *psql {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := l.session(ctx, l.through)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &psql{Process: process.Start(t, "psql", cmd), in: in, ctx: ctx}
}

// ask says a line, and returns the newest match in what psql has printed since.
func (p *psql) ask(t *testing.T, line, answer string) string {
	t.Helper()
	from := len(p.Log().String())
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(answer)
	found := ""
	within(t, time.Minute, "psql answers", func(context.Context) error {
		if found = re.FindString(p.Log().String()[from:]); found == "" {
			return errNotYet
		}
		return nil
	})
	return found
}

// TestWhoeverLosesHisPlaceLosesHisLinks takes an agent out of the configuration, and its trust domain's bundle away, while
// a call runs (H10): the call ends with link_lost, and nobody comes back.
func TestWhoeverLosesHisPlaceLosesHisLinks(t *testing.T) {
	for name, revoke := range map[string]func(t *testing.T, s *site){
		"removed from the configuration": func(t *testing.T, s *site) {
			s.relay.edit(t, "spiffe://dc1.example/agent/*", "spiffe://dc1.example/other/*")
			s.relay.command(t, "reload", "-c", s.relay.config, "--control", s.file("relay.sock"))
		},
		"its bundle replaced": func(t *testing.T, s *site) {
			certstest.WriteBundle(t, s.dir, "dc1", certstest.NewCA(t, "dc1.example"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent, err := new(servers.Loopback).Listen(t.Context(), "tcp", "127.0.0.1:0") // takes calls and answers none
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			s := startSite(t, options{}, tunnel{name: "slow", backend: "http://" + silent.Addr().String()})
			c := s.caller(t, nil, billingID, h1)
			answered := make(chan answer, 1)
			go func() {
				a, err := c.do(t, call{tunnel: "slow", path: "/"})
				if err != nil {
					t.Error(err)
				}
				answered <- a
			}()
			conn, err := silent.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			revoke(t, s)
			if a := <-answered; a.StatusCode != http.StatusBadGateway || a.code() != "link_lost" {
				t.Errorf("the running call got %d %s", a.StatusCode, a.body)
			}
			within(t, time.Minute, "no agent is left", func(context.Context) error {
				if a, err := c.do(t, call{tunnel: "slow", path: "/"}); err != nil || a.code() != "no_agent" {
					return errNotYet
				}
				return nil
			})
			within(t, time.Minute, "the agent is told why", func(context.Context) error {
				if !strings.Contains(s.agent.Log().String(), "identity_revoked") {
					return errNotYet
				}
				return nil
			})
			if log := s.relay.Log().String(); !strings.Contains(log, `"security":true`) || !strings.Contains(log, "identity_revoked") {
				t.Error("the relay's log does not say so")
			}
		})
	}
}
