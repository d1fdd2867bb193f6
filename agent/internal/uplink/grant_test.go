package uplink

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

func TestARelaysGrantsHoldOnceItsLinkStands(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	raw, err := r.grants.Sign(&grant.Grant{Tunnel: "orders", User: "ada"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u, stop := start(t, x, func(c *Config) { c.Relays = []string{r.addr} })
	if g, err := u.Grant(raw, "orders"); err == nil {
		t.Errorf("before the relay has shown its key: %+v", g)
	}
	receive(t, u.FirstLink(), "link")
	g, err := u.Grant(raw, "orders")
	if err != nil || g.User != "ada" {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := u.Grant(raw, "ledger"); err == nil {
		t.Error("the grant holds for another tunnel")
	}
	stop()
	if _, err := u.Grant(raw, "orders"); err != nil { // calls that are on their way when the last link goes
		t.Error(err)
	}
}

func TestALinkNeedsTheRelaysOwnGrantKey(t *testing.T) {
	x := newTrust(t)
	other := newGrants(t, certstest.NewSource(x.cloud.Issue(t, "spiffe://cloud.example/relay/2"), x.cloud))
	d, err := other.Delegation()
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]func(*protocol.GrantKey) *protocol.GrantKey{
		"none": func(*protocol.GrantKey) *protocol.GrantKey { return nil },
		"another relay's": func(*protocol.GrantKey) *protocol.GrantKey {
			return &protocol.GrantKey{Chain: d.Chain, Key: d.Key, Signature: d.Signature}
		},
		"an unsigned one": func(k *protocol.GrantKey) *protocol.GrantKey {
			return &protocol.GrantKey{Chain: k.Chain, Key: d.Key, Signature: k.Signature}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := startLaneRelay(t, x, "127.0.0.1:0")
			r.key = key
			u, _ := start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 2 })
			receive(t, r.links, "registration")
			eventually(t, "a lane was tried", func() bool { return r.taken.Load() > 0 })
			for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				if u.Up() > 0 {
					t.Fatal("a link stands")
				}
			}
		})
	}
}
