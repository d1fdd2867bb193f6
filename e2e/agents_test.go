//go:build linux

package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/servers"
)

// otherAgent returns an agent of another name and identity beside the site's, with the site's file otherwise.
func (s *site) otherAgent(t *testing.T, name, id string, opts ...certstest.Option) *program {
	t.Helper()
	s.write(t, name, s.dc.Issue(t, id, opts...))
	var config strings.Builder
	config.WriteString("name: " + name + "\nrelays: [\"" + s.address.String() + "\"]\nrelay_id: [\"spiffe://cloud.example/relay/*\"]\n" +
		"identity: {svid: {cert: " + name + ".crt, key: " + name + ".key}}\ntrust: {cloud.example: {bundle: cloud.pem}}\ntunnels:\n")
	for _, u := range s.tunnels {
		config.WriteString(u.inAgent())
	}
	return newProgramOf(t, "agent", s.identities, s.agent.on, name, config.String())
}

// R02, R03
func TestAgentOfferingSomeoneElsesTunnelIsRefusedAndSaidSo(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	orders := ordersTunnel(api)
	s := newSite(t, options{}, orders)
	// A second tunnel gives the intruder a link at all; the first one is not its own.
	s.relay.edit(t, "tunnels:\n", "tunnels:\n"+strings.ReplaceAll(
		tunnel{name: "other"}.inRelay(), "spiffe://dc1.example/agent/*", "spiffe://dc1.example/intruder/*"))
	s.relay.start(t)
	s.relay.ready(t)
	intruder := s.otherAgent(t, "intruder", "spiffe://dc1.example/intruder/x")
	intruder.start(t)
	intruder.ready(t)
	c := s.caller(t, nil, billingID, h1)
	if a := c.must(t, http.StatusServiceUnavailable, call{tunnel: "orders", path: "/v1/orders"}); a.code() != "no_agent" {
		t.Errorf("with the intruder alone: %s", a.body)
	}
	for who, p := range map[string]*program{"relay": s.relay, "intruder": intruder} {
		if log := p.Log().String(); !strings.Contains(log, "tunnel_not_owned") {
			t.Errorf("%s: no line says tunnel_not_owned:\n%s", who, p.Log().Tail(4<<10))
		}
	}
	s.agent.start(t)
	s.agent.ready(t)
	for range 50 {
		c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	}
}

// R01
func TestTwoAgentsShareATunnelAndOneIsEnough(t *testing.T) {
	s, _ := startOrders(t, options{})
	second := s.otherAgent(t, "dc1-b", "spiffe://dc1.example/agent/b")
	second.start(t)
	second.ready(t)
	c := s.caller(t, nil, billingID, h1)
	s.agent.Kill()
	// A call that was on its way may be lost with its link; those after it are not.
	within(t, 5*time.Second, "the second agent alone serves", func(context.Context) error {
		a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"})
		if err == nil && a.StatusCode != http.StatusOK {
			err = errNotYet
		}
		return err
	})
	for range 20 {
		c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	}
}

// H11: in this version a link is not re-authenticated in place; it ends with its certificate.
func TestLinkEndsWithItsCertificateAndComesBackWithTheNextOne(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	s := newSite(t, options{}, ordersTunnel(api))
	s.relay.start(t)
	s.relay.ready(t)
	short := s.otherAgent(t, "short", "spiffe://dc1.example/agent/short", certstest.NotAfter(time.Now().Add(8*time.Second)))
	short.start(t)
	short.ready(t)
	c := s.caller(t, nil, billingID, h1)
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	within(t, 30*time.Second, "the link ends with its certificate", func(context.Context) error {
		if _, err := short.get(t.Context(), "/readyz"); err == nil {
			return errNotYet
		}
		return nil
	})
	if a := c.must(t, http.StatusServiceUnavailable, call{tunnel: "orders", path: "/v1/orders"}); a.code() != "no_agent" {
		t.Errorf("after the end: %s", a.body)
	}
	s.write(t, "short", s.dc.Issue(t, "spiffe://dc1.example/agent/short"))
	within(t, 40*time.Second, "the renewed certificate is used", func(context.Context) error {
		_, err := short.get(t.Context(), "/readyz")
		return err
	})
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
}

// H01, H02
func TestAgentsWithoutAGoodIdentityGetNoLink(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	s := newSite(t, options{}, ordersTunnel(api))
	s.relay.start(t)
	s.relay.ready(t)
	fake := certstest.NewCA(t, "dc1.example")
	for name, cert := range map[string]struct {
		id  string
		ca  *certstest.CA
		why string
	}{
		"stranger": {"spiffe://dc1.example/agent/a", fake, "untrusted"},
		"caller":   {billingID, s.cloud, "not admitted"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := s.otherAgent(t, name, agentID)
			s.write(t, name, cert.ca.Issue(t, cert.id))
			agent.start(t)
			within(t, 30*time.Second, "the relay says why", func(context.Context) error {
				if !strings.Contains(s.relay.Log().String(), cert.why) {
					return errNotYet
				}
				return nil
			})
			if _, err := agent.get(t.Context(), "/readyz"); err == nil {
				t.Error("the agent says that it has a link")
			}
		})
	}
}
