package tunnel

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestLongestPathPrefixWinsBySegment(t *testing.T) {
	all := &Tunnel{Name: "all", Network: protocol.HTTP, Hosts: []Host{"a.example"}}
	v1 := &Tunnel{Name: "v1", Network: protocol.HTTP, Hosts: []Host{"a.example"}, PathPrefix: "/v1"}
	orders := &Tunnel{Name: "orders", Network: protocol.HTTP, Hosts: []Host{"a.example", "b.example"}, PathPrefix: "/v1/orders"}
	ledger := &Tunnel{Name: "ledger", Network: protocol.TCP, Hosts: []Host{"a.example"}}
	v6 := &Tunnel{Name: "v6", Network: protocol.TCP, Hosts: []Host{"fd00::1"}}
	tab, err := NewTable([]*Tunnel{all, v1, orders, ledger, v6})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network    protocol.Network
		host, path string
		want       *Tunnel
	}{
		{protocol.HTTP, "a.example", "/", all},
		{protocol.HTTP, "a.example", "/v1", v1},
		{protocol.HTTP, "a.example", "/v1/", v1},
		{protocol.HTTP, "a.example", "/v1evil", all}, // H13
		{protocol.HTTP, "a.example", "/v1/orders", orders},
		{protocol.HTTP, "a.example", "/v1/orders/7", orders},
		{protocol.HTTP, "a.example", "/v1/orders-evil", v1}, // H13
		{protocol.HTTP, "A.Example.:8443", "/v1/orders", orders},
		{protocol.HTTP, "b.example", "/", nil},
		{protocol.HTTP, "c.example", "/", nil},
		{protocol.HTTP, "", "/", nil},
		{protocol.HTTP, "a.example:1:2", "/", nil},
		{protocol.TCP, "a.example:5432", "", ledger},
		{protocol.TCP, "b.example:5432", "", nil},
		{protocol.TCP, "[fd00::1]:5432", "", v6},
		{protocol.TCP, "[FD00:0::1]", "", v6},
		{protocol.TCP, "[fd00::1", "", nil},
		{protocol.TCP, "[fd00::1]x", "", nil},
		{protocol.TCP, "fd00::1", "", nil},
		{protocol.HTTP, "a.example..", "/", nil},
		{protocol.UDP, "a.example", "", nil},
	} {
		if got, _ := tab.Find(c.network, c.host, c.path); got != c.want {
			t.Errorf("%s %s %s: got %+v", c.network, c.host, c.path, got)
		}
	}
}

func TestOnlyOpenTunnelsAreFoundForNobody(t *testing.T) {
	closed := &Tunnel{Name: "closed", Network: protocol.HTTP, Hosts: []Host{"a.example"}, PathPrefix: "/v1"}
	open := &Tunnel{Name: "open", Network: protocol.HTTP, Hosts: []Host{"a.example"}, AnyCaller: true}
	tab, err := NewTable([]*Tunnel{closed, open})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.FindAny(protocol.HTTP, "a.example", "/v1/x"); got != open {
		t.Errorf("got %+v", got)
	}
	if got, ok := tab.FindAny(protocol.HTTP, "b.example", "/"); ok {
		t.Errorf("got %+v", got)
	}
}

func TestTwoTunnelsCannotShareANameOrAPlace(t *testing.T) {
	a := Tunnel{Name: "a", Network: protocol.HTTP, Hosts: []Host{"a.example"}}
	b := a
	if _, err := NewTable([]*Tunnel{&a, &b}); err == nil || !strings.Contains(err.Error(), "named a") {
		t.Errorf("got %v", err)
	}
	b.Name = "b"
	if _, err := NewTable([]*Tunnel{&a, &b}); err == nil || !strings.Contains(err.Error(), "share http a.example") {
		t.Errorf("got %v", err)
	}
	b.Network = protocol.TCP
	if _, err := NewTable([]*Tunnel{&a, &b}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestHostsHaveOneSpelling(t *testing.T) {
	for in, want := range map[string]Host{
		"A.Example.": "a.example", "10.0.0.1": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "FD00::1": "fd00::1", "_x.example": "_x.example",
	} {
		if got, err := ParseHost(in); got != want || err != nil {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", ".", "a..b", "-a", "a-", "*.example", "a:1", "a/b", "a b", "é.example", "fe80::1%eth0", strings.Repeat("a", 64), strings.Repeat("a.", 130)} {
		if got, err := ParseHost(bad); err == nil {
			t.Errorf("%q: got %q", bad, got)
		}
	}
}

func FuzzRequestHost(f *testing.F) {
	for _, seed := range []string{"a.example", "::1", "[", "a:b:c", "A.", "]", ":", "::ffff:10.0.0.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := ParseHost(s)
		if err != nil {
			_ = RequestHost(s) // must not panic; what it returns no tunnel has
			return
		}
		sent := s
		if strings.Contains(s, ":") {
			sent = "[" + s + "]"
		}
		for _, spelling := range []string{sent, strings.ToUpper(sent), sent + ":443"} {
			if got := RequestHost(spelling); got != want {
				t.Errorf("%q came out as %q, want %q", spelling, got, want)
			}
		}
	})
}
