//go:build linux

package e2e

import (
	"context"
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
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v; expected the bytes back and an end after them", got, err)
	}
}
