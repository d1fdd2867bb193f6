//go:build linux

// Package servers starts the real servers that Fairlead's end-to-end tests put behind an agent, each with a
// configuration of its own in a folder that goes with the test. Each of them is what an operator installs from Debian,
// or, for gRPC and WebSocket, a well-known library.
//
// It knows nothing of Fairlead.
package servers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"testing"
)

// A Host is the machine that a server runs on: a *lab.Host, or Loopback.
type Host interface {
	Addr() netip.Addr
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Loopback is this machine, by 127.0.0.1.
type Loopback struct {
	net.Dialer
}

// Addr returns 127.0.0.1.
func (*Loopback) Addr() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// Command returns exec.CommandContext's.
func (*Loopback) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// Listen listens as net does.
func (*Loopback) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

// ListenPacket listens as net does.
func (*Loopback) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

// FreePort returns a port of the host, at its address, that nothing listens on. It is taken from below the range that dialing programs
// get their ports from, so that none of those is likely to take it before a server does.
func FreePort(t testing.TB, on Host) netip.AddrPort {
	t.Helper()
	return freePort(t, on, on.Addr())
}

// FreeLoopbackPort is FreePort for the host's own loopback.
func FreeLoopbackPort(t testing.TB, on Host) netip.AddrPort {
	t.Helper()
	return freePort(t, on, new(Loopback).Addr())
}

func freePort(t testing.TB, on Host, at netip.Addr) netip.AddrPort {
	t.Helper()
	var err error
	for range 100 {
		address := netip.AddrPortFrom(at, uint16(15_000+rand.IntN(15_000)))
		var l net.Listener
		if l, err = on.Listen(t.Context(), "tcp", address.String()); err == nil {
			err = l.Close()
		}
		if err == nil {
			return address
		}
	}
	t.Fatalf("no free port: %v", err)
	return netip.AddrPort{}
}

// command returns a command on the host for a whole command line.
func command(ctx context.Context, on Host, line ...string) *exec.Cmd {
	return on.Command(ctx, line[0], line[1:]...)
}

// url returns the URL of a server.
func url(scheme string, at netip.AddrPort) string { return fmt.Sprintf("%s://%s", scheme, at) }
