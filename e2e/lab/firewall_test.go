//go:build linux

package lab

import (
	"context"
	"errors"
	"os"
	"testing"
)

// reaches says whether a TCP connection comes about within a brief moment.
func reaches(t *testing.T, from *Host, address string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
		return true
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("dialing %s from %s: got %v, want silence", address, from.Name(), err)
	}
	return false
}

func TestNobodyOutsideReachesTheDataCentre(t *testing.T) {
	l := New(t, Options{Path: Fast})
	inside, outside := echoTCP(t, l.Host("dc")), echoTCP(t, l.Host("cloud"))
	if reaches(t, l.Host("cloud"), inside) {
		t.Error("the cloud reached a server in the data centre")
	}
	if reaches(t, l.Host("caller"), inside) {
		t.Error("the caller reached a server in the data centre")
	}
	// The same way is open for what was asked for, and the server does answer.
	mustExchange(t, dial(t, l.Host("dc"), "tcp", outside))
	mustExchange(t, dial(t, l.Host("proxy"), "tcp", inside))
	mustExchange(t, dial(t, l.Host("caller"), "tcp", outside))
}

func TestTheWayInIsOpenOnlyWhileItIsAllowed(t *testing.T) {
	l := New(t, Options{Path: Fast})
	inside := echoTCP(t, l.Host("dc"))
	l.Firewall().AllowIn(true)
	mustExchange(t, dial(t, l.Host("cloud"), "tcp", inside))
	l.Path().Cut(Silent)
	if reaches(t, l.Host("cloud"), inside) {
		t.Error("the cloud reached a server in the data centre over a cut path")
	}
	l.Path().Cut(Whole)
	l.Firewall().AllowIn(false)
	if reaches(t, l.Host("cloud"), inside) {
		t.Error("the cloud reached a server in the data centre")
	}
}

func TestUnsolicitedPacketsAreDropped(t *testing.T) {
	l := New(t, Options{Path: Fast})
	conn := dial(t, l.Host("cloud"), "udp", echoUDP(t, l.Host("dc")))
	if err := exchange(conn, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the data centre answered a packet from outside: %v", err)
	}
}

func TestDroppedProtocolLeavesTheOtherAlone(t *testing.T) {
	l := New(t, Options{Path: Fast})
	udp := dial(t, l.Host("dc"), "udp", echoUDP(t, l.Host("cloud")))
	tcp := dial(t, l.Host("dc"), "tcp", echoTCP(t, l.Host("cloud")))
	mustExchange(t, udp)
	mustExchange(t, tcp)
	l.Firewall().DropUDP(true)
	// A time-out, not an error of sending: programs inside see silence.
	if err := exchange(udp, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("UDP while dropped: got %v, want a time-out", err)
	}
	mustExchange(t, tcp)
	l.Firewall().DropUDP(false)
	l.Firewall().DropTCP(true)
	mustExchange(t, udp)
	if err := exchange(tcp, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("TCP while dropped: got %v, want a time-out", err)
	}
	l.Firewall().DropTCP(false)
	mustExchange(t, udp)
}

func TestProxyHostCanBeTheOnlyWayOut(t *testing.T) {
	l := New(t, Options{Path: Fast})
	outside := echoTCP(t, l.Host("cloud"))
	direct := dial(t, l.Host("dc"), "tcp", outside)
	mustExchange(t, direct)
	l.Firewall().ProxyOnly(true)
	if reaches(t, l.Host("dc"), outside) {
		t.Error("the data centre still reached the cloud by itself")
	}
	if err := exchange(direct, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection from before: got %v, want a time-out", err)
	}
	mustExchange(t, dial(t, l.Host("proxy"), "tcp", outside))
	mustExchange(t, dial(t, l.Host("dc"), "tcp", echoTCP(t, l.Host("proxy"))))
	l.Firewall().ProxyOnly(false)
	mustExchange(t, dial(t, l.Host("dc"), "tcp", outside))
}
