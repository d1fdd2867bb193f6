//go:build linux

package lab

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestCommandRunsOnItsHostAlone(t *testing.T) {
	l := New(t, Options{Path: Fast, Congestion: "reno"})
	out, err := l.Host("dc").Command(t.Context(), "ip", "-o", "-4", "addr").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "10.77.3.2/24") || strings.Contains(string(out), "10.77.4.2") {
		t.Errorf("the addresses on dc are:\n%s", out)
	}
	out, err = l.Host("dc").Command(t.Context(), "cat", "/proc/sys/net/ipv4/tcp_congestion_control").Output()
	if err != nil || strings.TrimSpace(string(out)) != "reno" {
		t.Errorf("congestion control on dc is %q (%v), want reno", out, err)
	}
}

func TestListenersShowsWhatListensAndNothingElse(t *testing.T) {
	l := New(t, Options{Path: Fast})
	dc := l.Host("dc")
	if got, err := dc.Listeners(); err != nil || len(got) != 0 {
		t.Fatalf("an empty host listens on %v (%v)", got, err)
	}
	tcp, udp := netip.MustParseAddrPort(echoTCP(t, dc)), netip.MustParseAddrPort(echoUDP(t, dc))
	mustExchange(t, dial(t, dc, "tcp", echoTCP(t, l.Host("cloud"))))
	mustExchange(t, dial(t, dc, "udp", echoUDP(t, l.Host("cloud"))))
	got, err := dc.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	if want := []Listener{{"tcp", tcp}, {"udp", udp}}; !slices.Equal(got, want) {
		t.Errorf("dc listens on %v, want %v", got, want)
	}
}

func TestLabLeavesNothingBehind(t *testing.T) {
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			// The one that ReadDir used is gone by now.
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil &&
				(strings.HasPrefix(to, "net:") || to == "/dev/net/tun") {
				n++
			}
		}
		return n
	}
	before := count()
	for _, kind := range []Kind{WAN, Fast} {
		t.Run("", func(t *testing.T) {
			New(t, Options{Path: kind})
			if count() <= before {
				t.Error("a lab holds neither namespaces nor devices: this test sees nothing")
			}
		})
	}
	if after := count(); after != before {
		t.Errorf("%d namespaces and devices were held before and %d after two labs", before, after)
	}
}

func TestNamesAreRefusedByHosts(t *testing.T) {
	l := New(t, Options{Path: Fast})
	if conn, err := l.Host("dc").DialContext(t.Context(), "tcp", "localhost:1"); err == nil || !strings.Contains(err.Error(), "literal") {
		if err == nil {
			conn.Close()
		}
		t.Errorf("got %v, want a refusal", err)
	}
}

func FuzzReadSockets(f *testing.F) {
	header := "  sl  local_address rem_address   st tx_queue\n"
	f.Add(header + "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n")
	f.Add(header + "   0: 00000000000000000000000001000000:0050 00000000:0000 0A 0\n")
	f.Add(header + "   0: 01:1F90 00000000:0000 0A\n")
	f.Fuzz(func(t *testing.T, table string) {
		found, err := readSockets(strings.NewReader(table), tcpListen)
		if err != nil {
			return
		}
		for _, addr := range found {
			if !addr.IsValid() {
				t.Errorf("an invalid address came out of %q", table)
			}
		}
	})
}

func TestSocketTableIsReadInTheMachinesOrder(t *testing.T) {
	found, err := readSockets(strings.NewReader("header\n 0: 0100007F:1F90 00000000:0000 0A 0\n 1: 0200007F:1F91 0:0 01 0\n"+
		" 2: 00000000000000000000000001000000:0050 0:0 0A 0\n"), tcpListen)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::1]:80")}
	if !slices.Equal(found, want) {
		t.Errorf("got %v, want %v (on a little-endian machine)", found, want)
	}
}
