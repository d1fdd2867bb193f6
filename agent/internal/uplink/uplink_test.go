package uplink

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// echo sends back what comes until the peer's end.
func echo(s link.Stream) {
	if _, err := io.Copy(s, s); err == nil {
		_ = s.CloseWrite()
	}
	_ = s.Close()
}

func TestLinksGoToEveryRelayAndEveryAddressBehindItsName(t *testing.T) {
	x := newTrust(t)
	one := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	two := startRelay(t, x, "127.0.0.2:0", "spiffe://cloud.example/relay/2")
	three := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/3")
	u, _ := start(t, x, func(c *Config) {
		c.Relays = []string{"relays.example:8443", three.addr}
		c.Resolve = func(_ context.Context, relay string) ([]string, error) {
			if relay == "relays.example:8443" {
				return []string{one.addr, two.addr}, nil
			}
			return []string{relay}, nil
		}
	})
	slots := map[uint16]bool{}
	for _, r := range []*fakeRelay{one, two, three} {
		slots[receive(t, r.hellos, "link").Slot] = true
	}
	if len(slots) != 3 {
		t.Errorf("slots %v; expected one of its own for each link, or they replace each other", slots)
	}
	receive(t, u.FirstLink(), "first link")
	for u.Up() < 3 {
		time.Sleep(time.Millisecond)
	}
}

func TestRelayThatTheFileDoesNotNameGetsNoLink(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/api/shop")
	u, stop := start(t, x, func(c *Config) { c.Relays = []string{r.addr} })
	for len(u.Status()) == 0 || u.Status()[0].LastError == "" {
		time.Sleep(time.Millisecond)
	}
	stop()
	select {
	case h := <-r.hellos:
		t.Errorf("the agent said hello to it: %+v", h)
	default:
	}
}

func TestAgentComesBackByItself(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	u, _ := start(t, x, func(c *Config) { c.Relays = []string{r.addr} })
	for range 3 {
		receive(t, r.links, "link").Close(errors.New("relay restarts"))
	}
	receive(t, r.links, "link after the restarts")
	if s := u.Status(); len(s) != 1 {
		t.Errorf("%d links; expected one", len(s))
	}
}

func TestStoppingTellsTheRelayAndLetsRunningCallsEnd(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	u, stop := start(t, x, func(c *Config) { c.Relays = []string{r.addr} })
	s := receive(t, r.links, "link")
	receive(t, u.FirstLink(), "first link")
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(st, "before "); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	receive(t, r.drains, "drain")
	if _, err := io.WriteString(st, "and after"); err != nil {
		t.Fatalf("a running call was cut by the drain: %v", err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(st); err != nil || string(got) != "before and after" {
		t.Errorf("%q, %v; expected the call to end well", got, err)
	}
	receive(t, stopped, "end of the uplink")
}

func TestNameThatDoesNotResolveIsAskedAgainAndNothingElseStops(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	start(t, x, func(c *Config) {
		c.Relays = []string{"gone.example:8443", r.addr}
		c.Resolve = func(_ context.Context, relay string) ([]string, error) {
			if strings.HasPrefix(relay, "gone") {
				return nil, errors.New("no such host")
			}
			return []string{relay}, nil
		}
	})
	receive(t, r.links, "link to the other relay")
}
