//go:build linux

// Package lab builds a network of hosts on one machine, as tests of Fairlead need it:
//
//	caller ── cloud ══ path ══ gateway ── dc
//	                              └────── proxy
//
// The hosts are network namespaces without names, the cables between them veth pairs. The path between the cloud and
// the data centre's gateway is a pair of TUN devices with a forwarder between them, which delays, loses, limits and
// cuts; or a plain veth pair, where speed is what matters. The gateway is the data centre's firewall. Only addresses of
// IPv4 are used, and no host has a resolver.
//
// It needs root, or a user namespace (see Enter), and ip, nft and nsenter. It knows nothing of Fairlead.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
)

// A Kind of path.
type Kind int

// The kinds.
const (
	WAN  Kind = iota // with conditions that can be set
	Fast             // a cable: only Path.Cut works
)

// Options of a lab; the zero value is a WAN that carries everything at once, with cubic.
type Options struct {
	Path       Kind
	Conditions Conditions // of a WAN, both directions, to begin with
	Seed       uint64     // decides the losses of a WAN
	Congestion string     // TCP's congestion control on every host; empty: cubic
}

// The gateway's devices.
const (
	wanDevice   = "wan"
	dcDevice    = "dc"
	proxyDevice = "proxy"
)

// A Lab is a network of hosts. It ends with its test.
type Lab struct {
	t        testing.TB
	hosts    map[string]*Host
	firewall *Firewall
	path     *Path
}

// New builds a lab for the test and takes it down after it. Where the machine does not allow one it ends the test: a
// failure in CI and for root, a skip for others.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	for program, debianPackage := range map[string]string{"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"} {
		process.Program(t, program, debianPackage)
	}
	l := &Lab{t: t, hosts: map[string]*Host{}}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Errorf("taking the lab down: %v", err)
		}
	})
	if err := l.build(o); errors.Is(err, os.ErrPermission) {
		process.Missing(t, "the lab needs root, or user namespaces and a /dev/net/tun that is open to all: "+err.Error())
	} else if err != nil {
		t.Fatalf("building the lab: %v", err)
	}
	return l
}

// Host returns the host with the name, and ends the test where there is none.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := l.hosts[name]
	if h == nil {
		l.t.Fatalf("the lab has no host %q", name)
	}
	return h
}

// Firewall returns the data centre's firewall.
func (l *Lab) Firewall() *Firewall { return l.firewall }

// Path returns the network between the cloud and the data centre.
func (l *Lab) Path() *Path { return l.path }

func (l *Lab) build(o Options) error {
	for name, addr := range map[string]string{
		"caller": "10.77.1.2", "cloud": "10.77.1.1", "gateway": "10.77.3.1", "dc": "10.77.3.2", "proxy": "10.77.4.2",
	} {
		ns, err := newNamespace()
		if err != nil {
			return err
		}
		l.hosts[name] = &Host{name: name, addr: netip.MustParseAddr(addr), ns: ns}
	}
	for _, h := range l.hosts {
		if err := errors.Join(h.settle(), l.setCongestion(h, o.Congestion)); err != nil {
			return err
		}
	}
	if err := l.wire(o); err != nil {
		return err
	}
	l.firewall = &Firewall{t: l.t, gateway: l.hosts["gateway"], dc: l.hosts["dc"]}
	if l.path != nil {
		l.path.firewall = l.firewall
	} else {
		l.path = &Path{t: l.t, firewall: l.firewall}
	}
	return l.hosts["gateway"].run(l.firewall.rules(), "nft", "-f", "-")
}

// wire joins the hosts and gives them addresses and ways.
func (l *Lab) wire(o Options) error {
	caller, cloud, gateway, dc, proxy := l.hosts["caller"], l.hosts["cloud"], l.hosts["gateway"], l.hosts["dc"], l.hosts["proxy"]
	if err := errors.Join(
		join(caller, "eth0", "10.77.1.2/24", cloud, "caller", "10.77.1.1/24"),
		join(dc, "eth0", "10.77.3.2/24", gateway, dcDevice, "10.77.3.1/24"),
		join(proxy, "eth0", "10.77.4.2/24", gateway, proxyDevice, "10.77.4.1/24"),
		l.lay(o, cloud, "10.77.2.1/30", gateway, "10.77.2.2/30"),
	); err != nil {
		return err
	}
	return errors.Join(
		caller.run("", "ip", "route", "add", "default", "via", "10.77.1.1"),
		cloud.run("", "ip", "route", "add", "10.77.0.0/16", "via", "10.77.2.2"),
		gateway.run("", "ip", "route", "add", "10.77.1.0/24", "via", "10.77.2.1"),
		dc.run("", "ip", "route", "add", "default", "via", "10.77.3.1"),
		proxy.run("", "ip", "route", "add", "default", "via", "10.77.4.1"),
		cloud.set("net/ipv4/ip_forward", "1"),
		gateway.set("net/ipv4/ip_forward", "1"),
	)
}

// lay makes the path.
func (l *Lab) lay(o Options, cloud *Host, cloudAddr string, gateway *Host, gatewayAddr string) error {
	if o.Path == Fast {
		return join(cloud, wanDevice, cloudAddr, gateway, wanDevice, gatewayAddr)
	}
	inCloud, err := cloud.tun(cloudAddr)
	if err != nil {
		return err
	}
	inGateway, err := gateway.tun(gatewayAddr)
	if err != nil {
		return errors.Join(err, inCloud.Close())
	}
	l.path = startPath(l.t, nil, inGateway, inCloud, o.Conditions, o.Seed)
	return nil
}

func (l *Lab) close() error {
	var errs []error
	if l.path != nil {
		errs = append(errs, l.path.close())
	}
	for name, h := range l.hosts {
		if err := h.ns.close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
