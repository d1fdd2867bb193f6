//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/fairlead/fairlead/e2e/servers"
)

func TestUnixSocketBesideTheRelayActsAsTheIdentityItNames(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	orders := ordersTunnel(api)
	orders.token = "none"
	orders.relay = "listen: {socket: orders.sock, as: " + billingID + "}"
	ledger := tunnel{name: "ledger", protocol: "tcp", backend: "tcp://" + startEcho(t), token: "none",
		relay: "listen: {socket: ledger.sock, as: " + billingID + "}"}
	s := startSite(t, options{}, orders, ledger)

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.file("orders.sock"))
		}}}
	resp, err := client.Get("http://anything.at.all/v1/orders")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %s", resp.Status)
	}
	if resp, err := client.Get("http://orders/admin/secret"); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("the agent's own rule does not hold: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}

	conn, err := net.Dial("unix", s.file("ledger.sock"))
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, conn)
}

func TestLoopbackAddressBesideTheRelayActsAsTheIdentityItNames(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	ordersAt, ledgerAt := servers.FreeLoopbackPort(t, new(servers.Loopback)), servers.FreeLoopbackPort(t, new(servers.Loopback))
	orders := ordersTunnel(api)
	orders.relay += fmt.Sprintf("\nlisten: {address: %q, as: %s}", ordersAt, billingID)
	ledger := tunnel{name: "ledger", protocol: "tcp", backend: "tcp://" + startEcho(t), token: "none",
		relay: fmt.Sprintf("listen: {address: %q, as: %s}", ledgerAt, billingID)}
	s := startSite(t, options{}, orders, ledger)

	for token, status := range map[string]int{"": http.StatusUnauthorized, s.token(t, orders.scope()): http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ordersAt.String()+"/v1/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("status %s; expected %d", resp.Status, status)
		}
	}
	http.DefaultClient.CloseIdleConnections()

	conn, err := net.Dial("tcp", ledgerAt.String())
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, conn)
}

// echoes sends to an echo server, ends its side, and expects the bytes back and an end after them. It closes conn.
func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v; expected the bytes back and an end after them", got, err)
	}
}
