//go:build linux

package lab

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Firewall is the data centre's, on its gateway: what goes out may, and what comes in must have been asked for. Its
// rules are on the forward hook, so a program in the data centre never sees an error from sending, only silence. Its
// methods are for the test's own goroutine, and end the test when the system refuses.
type Firewall struct {
	t       testing.TB
	gateway *Host
	dc      *Host

	mu        sync.Mutex
	drop      [2]bool // guarded by mu; by protocol
	proxyOnly bool    // guarded by mu
	allowIn   bool    // guarded by mu
	broken    Break   // guarded by mu
}

// The protocols that can be dropped.
const (
	udp = iota
	tcp
)

// DropUDP drops all UDP between the data centre and the cloud, flows that live included, or lets it pass again.
func (f *Firewall) DropUDP(drop bool) {
	f.t.Helper()
	f.change(func() { f.drop[udp] = drop })
}

// DropTCP is DropUDP for TCP.
func (f *Firewall) DropTCP(drop bool) {
	f.t.Helper()
	f.change(func() { f.drop[tcp] = drop })
}

// ProxyOnly makes the proxy host the only way out of the data centre, or opens the others again.
func (f *Firewall) ProxyOnly(only bool) {
	f.t.Helper()
	f.change(func() { f.proxyOnly = only })
}

// AllowIn lets the cloud dial into the data centre, or forbids it again: what a comparison needs, and no tunnel.
func (f *Firewall) AllowIn(allow bool) {
	f.t.Helper()
	f.change(func() { f.allowIn = allow })
}

func (f *Firewall) setCut(how Break) {
	f.t.Helper()
	f.change(func() { f.broken = how })
}

func (f *Firewall) change(set func()) {
	f.t.Helper()
	f.mu.Lock()
	set()
	rules := f.rules()
	f.mu.Unlock()
	if err := f.gateway.run(rules, "nft", "-f", "-"); err != nil {
		f.t.Fatalf("changing the firewall: %v", err)
	}
}

// rules returns the whole rule set; nft swaps it in at once. mu is held.
func (f *Firewall) rules() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("table inet firewall")        // made where it is not there yet,
	line("delete table inet firewall") // so that this cannot fail
	line("table inet firewall {")
	line("chain forward { type filter hook forward priority filter; policy drop;")
	if f.broken == Reset {
		// Two rules, as the reset itself leaves by the output hook.
		line(`iifname %q meta l4proto tcp reject with tcp reset`, wanDevice)
		line(`oifname %q meta l4proto tcp reject with tcp reset`, wanDevice)
	}
	if f.broken != Whole {
		line(`iifname %q drop`, wanDevice)
		line(`oifname %q drop`, wanDevice)
	}
	for protocol, name := range [...]string{udp: "udp", tcp: "tcp"} {
		if f.drop[protocol] {
			line(`iifname %q meta l4proto %s drop`, wanDevice, name)
			line(`oifname %q meta l4proto %s drop`, wanDevice, name)
		}
	}
	if f.proxyOnly {
		line(`iifname %q ip daddr %s drop`, wanDevice, f.dc.addr)
		line(`oifname %q ip saddr %s drop`, wanDevice, f.dc.addr)
	}
	line("ct state established,related accept")
	line(`iifname { %q, %q } accept`, dcDevice, proxyDevice)
	if f.allowIn {
		line(`iifname %q accept`, wanDevice)
	}
	line("}")
	line("chain input { type filter hook input priority filter; policy drop;")
	line("ct state established,related accept")
	line("meta l4proto icmp accept")
	line("}")
	line("}")
	return b.String()
}
