package limit

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var home = netip.MustParseAddr("192.0.2.1")

func admit(t *testing.T, g *Gate, addr netip.Addr) func(bool) {
	t.Helper()
	release, ok := g.Admit(addr)
	if !ok {
		t.Fatalf("Admit(%s) was refused, expected room", addr)
	}
	return release
}

func refused(t *testing.T, g *Gate, addr netip.Addr) {
	t.Helper()
	if _, ok := g.Admit(addr); ok {
		t.Fatalf("Admit(%s) was granted, expected a refusal", addr)
	}
}

func TestOneSourceCannotHoldAllUnprovedConnections(t *testing.T) { // H16
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{UnprovedPerSource: 3})
		first := admit(t, g, home)
		admit(t, g, home)
		admit(t, g, home)
		refused(t, g, home)
		admit(t, g, netip.MustParseAddr("192.0.2.2"))
		first(true)
		admit(t, g, home)
	})
}

func TestUnprovedConnectionsAreCappedInAll(t *testing.T) { // H16
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Unproved: 10})
		var last func(bool)
		for i := range 10 {
			last = admit(t, g, netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)))
		}
		refused(t, g, netip.MustParseAddr("198.51.100.1"))
		refused(t, g, netip.Addr{})
		last(false)
		admit(t, g, netip.MustParseAddr("198.51.100.1"))
		if got := g.Unproved(); got != 10 {
			t.Fatalf("Unproved() = %d, expected 10", got)
		}
	})
}

func TestFailuresUseUpTheSourcesBucketAndItRefills(t *testing.T) { // H16
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		for range 40 {
			admit(t, g, home)(false)
		}
		refused(t, g, home)
		admit(t, g, netip.MustParseAddr("192.0.2.2"))(false)
		time.Sleep(50 * time.Millisecond) // one token at 20/s
		admit(t, g, home)(false)
		refused(t, g, home)
	})
}

func TestProvedConnectionsCostTheirSourceNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		for range 10_000 {
			admit(t, g, home)(true)
		}
		if g.Unproved() != 0 {
			t.Fatalf("Unproved() = %d, expected 0", g.Unproved())
		}
	})
}

func TestReleaseCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{FailureBurst: 2})
		release := admit(t, g, home)
		release(true)
		release(false)
		release(false)
		if g.Unproved() != 0 {
			t.Fatalf("Unproved() = %d, expected 0", g.Unproved())
		}
		a, b := admit(t, g, home), admit(t, g, home)
		a(true)
		b(true)
	})
}

func TestIPv6SourcesAreCountedByTheir64(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{UnprovedPerSource: 1})
		admit(t, g, netip.MustParseAddr("2001:db8::1"))
		refused(t, g, netip.MustParseAddr("2001:db8::ffff:1"))
		admit(t, g, netip.MustParseAddr("2001:db8:0:1::1"))
		admit(t, g, netip.MustParseAddr("::ffff:192.0.2.1")) // the IPv4 source, whatever the socket calls it
		refused(t, g, home)
	})
}

func TestForgedAddressesCannotUseUpAnothersShare(t *testing.T) { // H18
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{UnprovedPerSource: 1, FailureBurst: 1})
		for range 100 {
			admit(t, g, netip.Addr{})(false)
		}
		admit(t, g, home)
	})
}

func TestSourcesRememberedAreBounded(t *testing.T) { // H18
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Sources: 8, FailureBurst: 1})
		held := admit(t, g, home)
		for i := range 1000 {
			admit(t, g, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))(false)
		}
		if len(g.sources) > 8 || g.recent.Len() != len(g.sources) {
			t.Fatalf("%d sources in the map, %d in the list, expected at most 8", len(g.sources), g.recent.Len())
		}
		held(false)
		refused(t, g, home) // its failure was not forgotten while it was open
	})
}
