//go:build linux

package servers

import (
	"context"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
)

// Orders is the orders API of the demo, which prints a line a call.
type Orders struct {
	*process.Process
	Addr netip.AddrPort
}

var ordersListen = regexp.MustCompile(`listening on (\S+)`)

// StartOrders builds and starts the API on the host, on a free port.
func StartOrders(t testing.TB, on Host) *Orders {
	t.Helper()
	program := process.Build(t, "e2e/demo/orders")
	ctx := context.WithoutCancel(t.Context())
	o := &Orders{Process: process.Start(t, "orders",
		on.Command(ctx, program, "-listen", netip.AddrPortFrom(on.Addr(), 0).String()))}
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := o.Find(wait, ordersListen)
	if err != nil {
		t.Fatal(err)
	}
	o.Addr = netip.MustParseAddrPort(found[1])
	return o
}
