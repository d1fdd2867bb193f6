//go:build linux

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/servers"
)

// fallback is how soon an agent must be up although one of its transports is dropped. (Design §6, issue 2.)
const fallback = 3 * time.Second

// links returns how many links of a transport the agent's metrics count.
func (p *program) links(ctx context.Context, transport string) (int, error) {
	metrics, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^fairlead_agent_links\{[^}]*transport="`+transport+`"[^}]*\} (\d+)`).FindAllStringSubmatch(metrics, -1)
	n := 0
	for _, f := range found {
		one, err := strconv.Atoi(f[1])
		if err != nil {
			return 0, err
		}
		n += one
	}
	return n, nil
}

// linked is what within waits for: a link of the transport.
func (p *program) linked(transport string) func(context.Context) error {
	return func(ctx context.Context) error {
		n, err := p.links(ctx, transport)
		if err == nil && n == 0 {
			err = fmt.Errorf("no link over %s", transport)
		}
		return err
	}
}

func TestAgentIsUpOverTCPWhileUDPIsDroppedAndBackOnQUICAfterIt(t *testing.T) {
	l := lab.New(t, lab.Options{})
	l.Firewall().DropUDP(true)
	s := newSite(t, labSite(l), ordersTunnel(servers.StartOrders(t, l.Host("dc"))))
	s.relay.start(t)
	s.relay.ready(t)
	s.agent.start(t)
	works := s.works(t, l.Host("caller"))
	took := within(t, fallback, "a call while UDP is dropped", works)
	t.Logf("the first call worked %s after the agent's start", took.Round(time.Millisecond))
	if n, err := s.agent.links(t.Context(), "quic"); err != nil || n != 0 {
		t.Errorf("%d links over QUIC while UDP is dropped (%v)", n, err)
	}
	l.Firewall().DropUDP(false)
	took = within(t, time.Minute, "a link over QUIC after UDP is back", s.agent.linked("quic"))
	t.Logf("back on QUIC after %s", took.Round(time.Millisecond))
	if err := works(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCallsGoOnWhenUDPIsDroppedUnderALiveAgent(t *testing.T) {
	l := lab.New(t, lab.Options{})
	s, _ := startOrders(t, labSite(l))
	within(t, time.Minute, "a link over QUIC", s.agent.linked("quic"))
	within(t, time.Minute, "a link over TCP", s.agent.linked("tcp"))
	l.Firewall().DropUDP(true)
	within(t, fallback, "a call after UDP is dropped", s.works(t, l.Host("caller")))
}

func TestQUICTakesOverWhereTCPIsDropped(t *testing.T) {
	l := lab.New(t, lab.Options{})
	l.Firewall().DropTCP(true)
	s := newSite(t, labSite(l), ordersTunnel(servers.StartOrders(t, l.Host("dc"))))
	s.relay.start(t)
	s.relay.ready(t)
	s.agent.start(t)
	within(t, fallback, "a call while TCP is dropped", s.works(t, l.Host("caller")))
	l.Firewall().DropTCP(false)
	within(t, time.Minute, "a link over TCP after it is back", s.agent.linked("tcp"))
}
