//go:build linux

package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/servers"
)

// edit replaces a text in the program's file, as an editor does: whole, by a rename.
func (p *program) edit(t *testing.T, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s does not contain %q", p.config, old)
	}
	if err := os.WriteFile(p.config+".new", []byte(strings.Replace(string(text), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.config+".new", p.config); err != nil {
		t.Fatal(err)
	}
}

// fails runs one of the program's other commands, which must fail, and returns its output.
func (p *program) fails(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.on.Command(t.Context(), p.binary(t), args...).CombinedOutput()
	if err == nil {
		t.Fatalf("%v succeeded: %s", args, out)
	}
	return string(out)
}

func TestBrokenFileIsRefusedAndTheOldOneServesOn(t *testing.T) {
	s, _ := startOrders(t, options{})
	c := s.caller(t, nil, billingID, h1)
	for _, p := range []*program{s.relay, s.agent} {
		p.edit(t, "orders", "ORDERS")
		out := p.fails(t, "reload", "-c", p.config, "--control", s.file(p.name+".sock"))
		if !strings.Contains(out, "tunnels[0].name") {
			t.Errorf("%s: the refusal does not name the key:\n%s", p.name, out)
		}
		c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
		p.edit(t, "ORDERS", "orders")
	}
}

// O10: a full disk leaves an editor's file empty or cut.
func TestFileCutByAFullDiskIsRefusedAndTheOldOneServesOn(t *testing.T) {
	s, _ := startOrders(t, options{})
	c := s.caller(t, nil, billingID, h1)
	for _, p := range []*program{s.relay, s.agent} {
		text, err := os.ReadFile(p.config)
		if err != nil {
			t.Fatal(err)
		}
		for _, cut := range []int{0, len(text) / 3} {
			if err := os.WriteFile(p.config, text[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			p.fails(t, "reload", "-c", p.config, "--control", s.file(p.name+".sock"))
			c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
		}
		if err := os.WriteFile(p.config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stayOpen opens a TCP call that answers what it is sent, and returns a check that it still does.
func stayOpen(t *testing.T, s *site, tunnelName string) (alive func(t *testing.T)) {
	t.Helper()
	conn, err := net.Dial("tcp", s.connect(t, nil, tunnelName).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(t *testing.T) {
		t.Helper()
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "ping\n"); err != nil {
			t.Fatalf("the open call cannot be written to: %v", err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			t.Fatalf("the open call does not answer: %v", err)
		}
	}
}

// startEcho starts a TCP server that answers what it is sent.
func startEcho(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return ln.Addr().String()
}

func TestReloadChangesRulesAndTunnelsWithoutTouchingOpenCalls(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	s := startSite(t, options{}, ordersTunnel(api), tunnel{name: "ledger", protocol: "tcp", backend: "tcp://" + startEcho(t)})
	c := s.caller(t, nil, billingID, h1)
	alive := stayOpen(t, s, "ledger")
	alive(t)

	s.agent.edit(t, "[GET, POST]", "[POST]") // a rule: no link needs to change
	s.agent.command(t, "reload", "-c", s.agent.config)
	if a := c.must(t, http.StatusForbidden, call{tunnel: "orders", path: "/v1/orders"}); a.code() != "agent_denied" {
		t.Errorf("after the agent's reload: %s", a.body)
	}
	alive(t)

	s.relay.edit(t, "[spiffe://cloud.example/api/*]", "[spiffe://cloud.example/nobody]")
	s.relay.command(t, "reload", "-c", s.relay.config)
	if a := c.must(t, http.StatusForbidden, call{tunnel: "orders", path: "/v1/orders"}); a.code() != "caller_denied" {
		t.Errorf("after the relay's reload: %s", a.body)
	}
	alive(t)
}

func TestTunnelAddedByAReloadIsServedAtOnceOverNewLinks(t *testing.T) {
	s := startSite(t, options{}, tunnel{name: "ledger", protocol: "tcp", backend: "tcp://" + startEcho(t)})
	alive := stayOpen(t, s, "ledger")
	api := servers.StartOrders(t, new(servers.Loopback))
	added := ordersTunnel(api)
	s.relay.edit(t, "tunnels:\n", "tunnels:\n"+added.inRelay())
	s.relay.command(t, "reload", "-c", s.relay.config)
	c := s.caller(t, nil, billingID, h1)
	if a := c.must(t, http.StatusServiceUnavailable, call{tunnel: "orders", path: "/v1/orders"}); a.code() != "no_agent" {
		t.Errorf("before an agent serves it: %s", a.body)
	}
	s.agent.edit(t, "tunnels:\n", "tunnels:\n"+added.inAgent())
	s.agent.command(t, "reload", "-c", s.agent.config)
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	alive(t)
}

func TestChangedFileIsReloadedByItself(t *testing.T) {
	s, _ := startOrders(t, options{})
	c := s.caller(t, nil, billingID, h1)
	s.agent.edit(t, "[GET, POST]", "[POST]")
	within(t, 20*time.Second, "the agent takes the new file", func(context.Context) error {
		a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"})
		if err == nil && a.StatusCode != http.StatusForbidden {
			err = errNotYet
		}
		return err
	})
}
