//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// settle prepares an empty host: loopback up, no IPv6 (its own packets would be counted).
func (h *Host) settle() error {
	return errors.Join(
		h.set("net/ipv6/conf/all/disable_ipv6", "1"),
		h.set("net/ipv6/conf/default/disable_ipv6", "1"),
		h.run("", "ip", "link", "set", "lo", "up"),
	)
}

// set writes one of the host's kernel settings, named by its path below /proc/sys.
func (h *Host) set(key, value string) error {
	return h.ns.within(func() error {
		// /proc/sys/net shows the namespace of the thread that opens it.
		err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a kernel without IPv6
		}
		return err
	})
}

// join lays a veth pair between two hosts.
func join(a *Host, deviceA, addrA string, b *Host, deviceB, addrB string) error {
	err := b.ns.within(func() error {
		// ip finds b's namespace by a thread that is in it: this one, which waits here.
		thread := strconv.Itoa(unix.Gettid())
		return a.run("", "ip", "link", "add", deviceA, "type", "veth", "peer", "name", deviceB, "netns", thread)
	})
	if err != nil {
		return err
	}
	return errors.Join(a.raise(deviceA, addrA), b.raise(deviceB, addrB))
}

// tun makes one end of a WAN.
func (h *Host) tun(addr string) (*os.File, error) {
	var device *os.File
	if err := h.ns.within(func() (err error) {
		device, err = openTUN(wanDevice)
		return err
	}); err != nil {
		return nil, fmt.Errorf("on %s: %w", h.name, err)
	}
	// The forwarder's own queue is the one that is to overflow.
	err := h.run("", "ip", "link", "set", wanDevice, "mtu", strconv.Itoa(mtu), "txqueuelen", "10000")
	if err = errors.Join(err, h.raise(wanDevice, addr)); err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return device, nil
}

func (h *Host) raise(device, addr string) error {
	return errors.Join(
		h.run("", "ip", "addr", "add", addr, "dev", device),
		h.run("", "ip", "link", "set", device, "up"),
	)
}
