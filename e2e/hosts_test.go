//go:build linux

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/servers"
)

// healing bounds how long calls may fail after whatever was broken is whole again: the redial's back-off in its first
// minute is a second, and the machine may be slow.
const healing = 15 * time.Second

// labSite is a site whose relay is in the lab's cloud and whose agent is in its data centre.
func labSite(l *lab.Lab) options {
	return options{cloud: l.Host("cloud"), dc: l.Host("dc")}
}

func TestCallsCrossBetweenHosts(t *testing.T) {
	l := lab.New(t, lab.Options{})
	api := servers.StartOrders(t, l.Host("dc"))
	s := startSite(t, labSite(l), ordersTunnel(api),
		tunnel{name: "raw", protocol: "tcp", backend: "tcp://" + api.Addr.String()})
	for _, v := range []version{h1, h2, h3} {
		t.Run(v.String(), func(t *testing.T) {
			s.caller(t, l.Host("caller"), billingID, v).must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders/1"})
		})
	}
	t.Run("connect", func(t *testing.T) {
		address := s.connect(t, l.Host("caller"), "raw")
		transport := &http.Transport{DialContext: l.Host("caller").DialContext}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: time.Minute}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address.String()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("got %s (%v)", response.Status, err)
		}
	})
}

func TestNothingInTheDataCentreListens(t *testing.T) {
	l := lab.New(t, lab.Options{})
	// Over TCP alone: to the kernel a QUIC client's socket looks like a server's.
	o := labSite(l)
	o.agent = "transport: tcp"
	s, api := startOrders(t, o)
	s.caller(t, l.Host("caller"), billingID, h1).must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	listeners, err := l.Host("dc").Listeners()
	if err != nil {
		t.Fatal(err)
	}
	ops, backend := lab.Listener{Network: "tcp", Addr: s.agent.ops}, lab.Listener{Network: "tcp", Addr: api.Addr}
	for _, want := range []lab.Listener{ops, backend} {
		if !slices.Contains(listeners, want) {
			t.Errorf("%v is not among what listens, %v: this test sees nothing", want, listeners)
		}
	}
	for _, found := range listeners {
		if found != ops && found != backend {
			t.Errorf("%v listens in the data centre", found)
		}
	}
}

func TestLongLossyPathCarriesWholeFiles(t *testing.T) {
	l := lab.New(t, lab.Options{Seed: 1, Conditions: lab.Conditions{Delay: 20 * time.Millisecond, Loss: 0.005, Rate: 100_000_000}})
	n := servers.StartNginx(t, l.Host("dc"))
	const size = 2 << 20
	want := n.WriteFile(t, "file", size)
	s := startSite(t, labSite(l), tunnel{name: "files", backend: "http://" + n.Addr.String()})
	c := s.caller(t, l.Host("caller"), billingID, h1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	response, err := c.Do(c.request(ctx, t, call{tunnel: "files", path: "/file"}))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	sum := sha256.New()
	if got, err := io.Copy(sum, response.Body); err != nil || got != size || hex.EncodeToString(sum.Sum(nil)) != want {
		t.Errorf("got %d of %d bytes (%v), or others than were sent", got, size, err)
	}
	if l.Path().Stats(lab.Out).Lost == 0 {
		t.Error("the path lost nothing: this test sees nothing")
	}
}

// works is what within waits for: that an order can be had.
func (s *site) works(t *testing.T, on servers.Host) func(context.Context) error {
	t.Helper()
	c := s.caller(t, on, billingID, h1)
	return func(ctx context.Context) error {
		c.CloseIdleConnections() // a connection from before may be half-open
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		response, err := c.Do(c.request(ctx, t, call{tunnel: "orders", path: "/v1/orders/1"}))
		if err != nil {
			return err
		}
		if err := response.Body.Close(); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %s", response.Status)
		}
		return nil
	}
}

func TestKilledRelayComesBackAndTheAgentByItself(t *testing.T) {
	l := lab.New(t, lab.Options{})
	s, _ := startOrders(t, labSite(l))
	works := s.works(t, l.Host("caller"))
	if err := works(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.relay.Kill()
	if works(t.Context()) == nil {
		t.Fatal("calls work without a relay: this test sees nothing")
	}
	s.relay.start(t)
	s.relay.ready(t)
	took := within(t, healing, "a call after the relay came back", works)
	t.Logf("calls worked again %s after the relay did", took.Round(time.Millisecond))
}

func TestAgentComesBackAfterASilentCut(t *testing.T) {
	l := lab.New(t, lab.Options{})
	s, _ := startOrders(t, labSite(l))
	works := s.works(t, l.Host("caller"))
	if err := works(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Path().Cut(lab.Silent)
	within(t, time.Minute, "the agent to see that its links are dead", func(ctx context.Context) error {
		if _, err := s.agent.get(ctx, "/readyz"); err == nil {
			return errNotYet
		}
		return nil
	})
	l.Path().Cut(lab.Whole)
	took := within(t, healing, "a call after the cut", works)
	t.Logf("calls worked again %s after the path did", took.Round(time.Millisecond))
}
