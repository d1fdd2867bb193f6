//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
)

// A Host is one machine of the lab: its own interfaces, addresses, ports and loopback, on this machine's files. Its
// methods are safe for concurrent use.
type Host struct {
	name string
	addr netip.Addr
	ns   *namespace
}

// Name returns the host's name: caller, cloud, gateway, dc or proxy.
func (h *Host) Name() string { return h.name }

// Addr returns the address that other hosts know this one by.
func (h *Host) Addr() netip.Addr { return h.addr }

// Command returns a command that runs the program on the host, under the same process id as if it were run directly.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.ns.path(), "--", name}, args...)...)
}

// DialContext connects from the host. The address must be literal: the host has no resolver.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	err = h.ns.within(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on the host for a server within the test.
func (h *Host) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = h.ns.within(func() error {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a packet socket on the host.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (c net.PacketConn, err error) {
	err = h.ns.within(func() error {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}

// run runs a program of the system on the host with input, and waits for it.
func (h *Host) run(input string, name string, args ...string) error {
	return h.ns.within(func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(input)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("on %s: %s %s: %w: %s", h.name, name, strings.Join(args, " "), err, &said)
		}
		return nil
	})
}

// literal refuses names: looking one up would leave the thread that is inside the namespace.
func literal(address string) error {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return errors.Join(fmt.Errorf("expected a literal address, got %q", address), err)
	}
	return nil
}
