//go:build linux && spire

package spire

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/workloadsource"
	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := process.RemoveBuilt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// A site is a relay in cloud.example and an agent in dc1.example, each with the identity that its own SPIRE gives it, and
// this process as a caller in cloud.example.
type site struct {
	cloud, dc    *domain
	address      netip.AddrPort // the relay's
	relay, agent *process.Process
	source       *workloadsource.Source
	client       *http.Client
}

func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{cloud: newDomain(t, "cloud.example"), dc: newDomain(t, "dc1.example")}
	s.cloud.startServer(t, s.dc)
	s.dc.startServer(t, s.cloud)
	s.cloud.know(t, s.dc)
	s.dc.know(t, s.cloud)
	s.cloud.startAgent(t)
	s.dc.startAgent(t)

	host := new(servers.Loopback)
	relay, agent := process.Build(t, "relay/cmd/fairlead-relay"), process.Build(t, "agent/cmd/fairlead-agent")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cloud.entry(t, "/relay/a", relay, "-federatesWith", s.dc.id(""), "-dns", "orders.dc1.example")
	s.cloud.entry(t, "/api/billing", self)
	s.dc.entry(t, "/agent/a", agent, "-federatesWith", s.cloud.id(""))

	orders := servers.StartOrders(t, host)
	s.address = servers.FreePort(t, host)
	s.cloud.write(t, "relay.yaml", fmt.Sprintf(`listen: %s
identity: {workload_api: '%s'}
ops: %s
control: relay.sock
state_dir: .
tokens:
  - {issuer: spiffe://cloud.example, audiences: [fairlead]}
tunnels:
  - name: orders
    protocol: http
    hosts: [orders.dc1.example]
    agents: [spiffe://dc1.example/agent/*]
    callers: [spiffe://cloud.example/api/*]
    token: {issuer: spiffe://cloud.example}
`, s.address, s.cloud.api(), servers.FreeLoopbackPort(t, host)))
	s.dc.write(t, "agent.yaml", fmt.Sprintf(`name: dc1-a
relays: ["%s"]
relay_id: ["spiffe://cloud.example/relay/*"]
identity: {workload_api: '%s'}
tunnels:
  - {name: orders, backend: 'http://%s'}
`, s.address, s.dc.api(), orders.Addr))
	ctx := context.WithoutCancel(t.Context())
	s.relay = process.Start(t, "relay", exec.CommandContext(ctx, relay, "run", "-c", s.cloud.file("relay.yaml")))
	s.agent = process.Start(t, "agent", exec.CommandContext(ctx, agent, "run", "-c", s.dc.file("agent.yaml")))
	s.beCaller(t)
	s.within(t, 2*time.Minute, "the first call crosses", s.call)
	return s
}

// beCaller gets this process its identity.
func (s *site) beCaller(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	s.source, err = workloadsource.Open(ctx, workloadsource.Config{Address: s.cloud.api(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	following, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.source.Run(following) }) // returns nil
	config := certs.ClientConfig(s.source, "orders.dc1.example", []string{"http/1.1"}, certs.AnyID)
	transport := &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, s.address.String())
	}}
	s.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	t.Cleanup(func() {
		stop()
		running.Wait()
		transport.CloseIdleConnections()
	})
}

// refusal is an answer other than 200.
type refusal struct {
	status int
	code   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.code) }

// call makes a call with a JWT-SVID of this process's.
func (s *site) call(ctx context.Context) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(s.cloud.api()))
	if err != nil {
		return err
	}
	defer client.Close()
	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "fairlead"})
	if err != nil {
		return fmt.Errorf("asking for a JWT-SVID: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://orders.dc1.example/v1/orders", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token.Marshal())
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK {
		return err
	}
	var problem struct{ Code string }
	_ = json.Unmarshal(body, &problem) // a refusal without a code is told by its status
	return &refusal{response.StatusCode, problem.Code}
}

// within asks until ask returns nil, and ends the test after bound.
func (s *site) within(t *testing.T, bound time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			t.Logf("%s: after %s", what, time.Since(began).Round(100*time.Millisecond))
			return
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, bound, err)
		}
	}
}

// load calls, one call after the other, until the function that it returns is called, which wants all of them to have gone
// well.
func (s *site) load(t *testing.T) (end func()) {
	t.Helper()
	var stop atomic.Bool
	var calls int
	var running sync.WaitGroup
	failed := make(chan error, 1)
	running.Go(func() {
		for ; !stop.Load(); calls++ {
			if err := s.call(t.Context()); err != nil {
				failed <- err
				return
			}
		}
	})
	return func() {
		t.Helper()
		stop.Store(true)
		running.Wait()
		select {
		case err := <-failed:
			t.Errorf("after %d calls: %v", calls, err)
		default:
			t.Logf("%d calls, none failed", calls)
		}
	}
}

// authority is what SPIRE says of one of its X.509 authorities.
type authority struct {
	ID string `json:"authority_id"`
}

// TestARootTurnsOverUnderLoad prepares, activates, taints and revokes each server's X.509 authority while calls run: none
// fails, and no link is lost.
func TestARootTurnsOverUnderLoad(t *testing.T) {
	s := startSite(t)
	end := s.load(t)
	for _, d := range []*domain{s.cloud, s.dc} {
		var old, next struct {
			Active   authority `json:"active"`
			Prepared authority `json:"prepared_authority"`
		}
		d.commandJSON(t, &old, "localauthority", "x509", "show")
		d.commandJSON(t, &next, "localauthority", "x509", "prepare")
		time.Sleep(80 * time.Second) // for the bundle to reach everybody: the other server asks once a minute
		d.command(t, "localauthority", "x509", "activate", "-authorityID", next.Prepared.ID)
		d.command(t, "localauthority", "x509", "taint", "-authorityID", old.Active.ID)
		time.Sleep(svidLife)
		d.command(t, "localauthority", "x509", "revoke", "-authorityID", old.Active.ID)
		time.Sleep(svidLife / 2)
	}
	end()
	for name, p := range map[string]*process.Process{"relay": s.relay, "agent": s.agent} {
		for _, word := range []string{"link lost", "identity_expired", "identity_revoked"} {
			if strings.Contains(p.Log().String(), word) {
				t.Errorf("the %s says %q", name, word)
			}
		}
	}
}

// TestSPIREIsDownForLongerThanAnSVIDLives stops the cloud's SPIRE server until every SVID of the cloud has expired: calls
// are refused, links end, and everything comes back by itself.
func TestSPIREIsDownForLongerThanAnSVIDLives(t *testing.T) {
	s := startSite(t)
	if err := s.cloud.server.Stop(); err != nil {
		t.Fatal(err)
	}
	s.within(t, 3*time.Minute, "the agent lets the relay go", func(context.Context) error {
		if !strings.Contains(s.agent.Log().String(), "identity_expired") {
			return errors.New("not yet")
		}
		return nil
	})
	if err := s.call(t.Context()); err == nil {
		t.Error("a call crosses although every SVID has expired")
	}
	if !strings.Contains(s.relay.Log().String(), "not renewed in time") {
		t.Error("the relay's log does not warn")
	}
	s.cloud.startServer(t, s.dc)
	s.within(t, 4*time.Minute, "calls cross again", s.call)
}
