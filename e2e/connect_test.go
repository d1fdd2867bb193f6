//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

var listeningOn = regexp.MustCompile(`listening on (\S+)`)

// connect starts `fairlead-relay connect` for the tunnel beside a caller on the host (nil: this one) and returns the
// address that plain clients there may use; more are flags.
func (s *site) connect(t *testing.T, on servers.Host, tunnelName string, more ...string) netip.AddrPort {
	t.Helper()
	if on == nil {
		on = new(servers.Loopback)
	}
	u := s.tunnel(t, tunnelName)
	p := process.Start(t, "connect", on.Command(context.WithoutCancel(t.Context()), s.relay.binary(t), append([]string{"connect",
		"--relay", s.address.String(), "--tunnel-host", u.host(), "--listen", "127.0.0.1:0",
		"--cert", s.file("billing.crt"), "--key", s.file("billing.key"), "--trust", s.file("cloud.pem"),
		"--token-file", s.tokenFile(t, u.scope())}, more...)...))
	s.watch(fmt.Sprintf("connect (process %d)", p.Pid()), p)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := p.Find(ctx, listeningOn)
	if err != nil {
		t.Fatal(err)
	}
	address, err := netip.ParseAddrPort(found[1])
	if err != nil {
		t.Fatalf("connect says that it is listening on %q", found[1])
	}
	return address
}
