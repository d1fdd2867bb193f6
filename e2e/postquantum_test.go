//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/e2e/servers"
)

// withoutPostQuantum makes programs that start from here on know no key agreement with ML-KEM.
func withoutPostQuantum(t *testing.T) {
	t.Helper()
	t.Setenv("GODEBUG", "tlsmlkem=0,tlssecpmlkem=0")
}

func says(p *program, words ...string) func(context.Context) error {
	return func(context.Context) error {
		log := p.Log().String()
		for _, w := range words {
			if !strings.Contains(log, w) {
				return errNotYet
			}
		}
		return nil
	}
}

func TestKeyAgreementIsPostQuantumEverywhereAndShown(t *testing.T) {
	s, _ := startOrders(t, options{})
	for _, v := range []version{h1, h2, h3} {
		s.caller(t, nil, billingID, v).must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	}
	within(t, time.Minute, "all links stand", func(ctx context.Context) error {
		metrics, err := s.relay.get(ctx, "/metrics")
		for _, row := range []string{`kind="agent",post_quantum="true",transport="tcp"`, `kind="agent",post_quantum="true",transport="quic"`,
			`kind="lane",post_quantum="true",transport="tcp"`, `kind="caller",post_quantum="true",transport="tcp"`, `kind="caller",post_quantum="true",transport="quic"`} {
			if !strings.Contains(metrics, `fairlead_relay_handshakes_total{key_agreement="X25519MLKEM768",`+row) {
				return errNotYet
			}
		}
		return err
	})
	for _, p := range []*program{s.relay, s.agent} {
		out := p.command(t, "status", "-c", p.config, "--control", s.file(p.name+".sock"), "--json")
		if n := strings.Count(out, `"curve": "X25519MLKEM768"`); n < 3 {
			t.Errorf("%s shows it of %d links, expected 3:\n%s", p.name, n, out)
		}
	}
}

func TestRelayThatRequiresPostQuantumRefusesLess(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	s := newSite(t, options{}, ordersTunnel(api))
	s.relay.add(t, "require_pq: true\n")
	s.start(t)
	for _, v := range []version{h1, h2, h3} {
		s.caller(t, nil, billingID, v).must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
		old := s.caller(t, nil, billingID, v)
		switch t := old.Transport.(type) {
		case *http.Transport:
			t.TLSClientConfig.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		case *http3.Transport:
			t.TLSClientConfig.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		}
		if a := old.must(t, http.StatusForbidden, call{tunnel: "orders", path: "/v1/orders"}); a.code() != "caller_denied" || !strings.Contains(a.body, "X25519MLKEM768") {
			t.Errorf("%v: got %s", v, a.body)
		}
	}
	s.agent.stop(t)
	withoutPostQuantum(t)
	s.agent.start(t)
	within(t, time.Minute, "the agent hears why, on every transport", says(s.agent,
		`"transport":"tcp","error":"registering at`, `"transport":"quic","error":"registering at`, `"transport":"lane","error":"dialing a lane`, "denied: a post-quantum key agreement such as X25519MLKEM768 is expected (require_pq)"))
	if strings.Contains(s.agent.Log().String(), "link up") {
		t.Error("a link stands all the same")
	}
}

func TestAgentThatRequiresPostQuantumRefusesLess(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	s := newSite(t, options{agent: "require_pq: true"}, ordersTunnel(api))
	withoutPostQuantum(t)
	s.relay.start(t)
	s.relay.ready(t)
	if err := os.Unsetenv("GODEBUG"); err != nil {
		t.Fatal(err)
	}
	s.agent.start(t)
	within(t, time.Minute, "the agent says why, on every transport", func(context.Context) error {
		log := s.agent.Log().String()
		for _, transport := range []string{"tcp", "quic", "lane"} {
			found := false
			for line := range strings.Lines(log) {
				found = found || strings.Contains(line, `"transport":"`+transport+`"`) && strings.Contains(line, "a post-quantum key agreement such as X25519MLKEM768 is expected (require_pq)")
			}
			if !found {
				return errNotYet
			}
		}
		return nil
	})
	if strings.Contains(s.agent.Log().String(), "link up") {
		t.Error("a link stands all the same")
	}
}
