package socket_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link/socket"
)

func TestSilentConnectionIsToldFromOneThatSaidOrEndedSomething(t *testing.T) {
	near, far := pair(t)
	if !near.Silent() {
		t.Error("a quiet connection is not silent")
	}
	write(t, far, []byte{1})
	time.Sleep(20 * time.Millisecond)
	if near.Silent() {
		t.Error("a byte that waits was not seen")
	}
	near, far = pair(t)
	_ = far.Close()
	time.Sleep(20 * time.Millisecond)
	if near.Silent() {
		t.Error("the peer's end was not seen")
	}
}

func TestKernelKnowsThatThePeerHasEnded(t *testing.T) {
	near, far := pair(t)
	if s, ok := socket.Ask(near); !ok || s.Ended || s.Congestion == "" {
		t.Errorf("%+v, %t; expected a live connection and its congestion control", s, ok)
	}
	_ = far.SetLinger(0)
	_ = far.Close()
	time.Sleep(20 * time.Millisecond)
	if s, ok := socket.Ask(near); !ok || !s.Ended {
		t.Errorf("%+v, %t; expected its end", s, ok)
	}
}

func TestBBRIsAskedForWhereTheKernelOffersIt(t *testing.T) {
	list, err := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	offered := slices.Contains(strings.Fields(string(list)), "bbr") || os.Geteuid() == 0
	near, _ := pair(t)
	if err := socket.Tune(near, socket.Options{Congestion: socket.BBR, Unsent: socket.LinkUnsent, UserTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if s, _ := socket.Ask(near); offered && s.Congestion != "bbr" {
		t.Errorf("%s is in force, expected bbr", s.Congestion)
	}
}

func TestAutoLeavesAShortPathAlone(t *testing.T) {
	near, _ := pair(t)
	before, _ := socket.Ask(near)
	if err := socket.Tune(near, socket.Options{Congestion: socket.Auto}); err != nil {
		t.Fatal(err)
	}
	if after, _ := socket.Ask(near); after.Congestion != before.Congestion {
		t.Errorf("%s became %s over loopback", before.Congestion, after.Congestion)
	}
}
