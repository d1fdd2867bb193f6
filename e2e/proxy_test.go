//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/servers"
)

// behindProxy starts a relay, squid in front of it, and an agent that goes out through squid with the password, which
// it does not wait for.
func behindProxy(t *testing.T, o options, on servers.Host, password func(*servers.Squid) string) (*site, *servers.Squid) {
	t.Helper()
	api := servers.StartOrders(t, o.dc)
	// squid must know the relay's port, the agent's file squid's address: the site is laid out first.
	s := newSite(t, o, ordersTunnel(api))
	squid := servers.StartSquid(t, on, s.address.Port())
	s.secretFile(t, "proxy.secret", password(squid))
	s.secret(squid.Password)
	s.agent.add(t, fmt.Sprintf("proxy: {url: http://%s, user: %s, password_file: proxy.secret}\n", squid.Addr, squid.User))
	s.relay.start(t)
	s.relay.ready(t)
	s.agent.start(t)
	return s, squid
}

func rightPassword(s *servers.Squid) string { return s.Password }

func TestAgentGoesOutThroughAProxyWithAPassword(t *testing.T) {
	here := new(servers.Loopback)
	s, squid := behindProxy(t, options{cloud: here, dc: here}, here, rightPassword)
	s.agent.ready(t)
	s.caller(t, nil, billingID, h1).must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	s.agent.stop(t)
	// squid writes about a tunnel when it has ended.
	within(t, 20*time.Second, "squid to write about the agent's link", func(context.Context) error {
		if log := squid.Access(t); !strings.Contains(log, "CONNECT "+s.address.String()) || !strings.Contains(log, " agent ") {
			return fmt.Errorf("squid wrote %q", log)
		}
		return nil
	})
}

func TestProxysRefusalIsSaidPlainly(t *testing.T) {
	here := new(servers.Loopback)
	o := options{cloud: here, dc: here, agent: "transport: tcp"}
	s, _ := behindProxy(t, o, here, func(*servers.Squid) string { return "wrong-canary-4712" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.agent.Find(ctx, regexp.MustCompile(`proxy.*407|407.*proxy`)); err != nil {
		t.Error(err)
	}
	if _, err := s.agent.get(t.Context(), "/readyz"); err == nil {
		t.Error("the agent is ready without a way out")
	}
}

func TestProxyCanBeTheOnlyWayOut(t *testing.T) {
	l := lab.New(t, lab.Options{})
	l.Firewall().ProxyOnly(true)
	s, _ := behindProxy(t, labSite(l), l.Host("proxy"), rightPassword)
	s.agent.ready(t)
	works := s.works(t, l.Host("caller"))
	within(t, healing, "a call through the proxy", works)
	s.relay.Kill()
	s.relay.start(t)
	s.relay.ready(t)
	within(t, healing, "a call through the proxy after the relay came back", works)
}
