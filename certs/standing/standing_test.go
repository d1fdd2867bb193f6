package standing_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/standing"
)

const (
	relayID = "spiffe://cloud.example/relay/a"
	agentID = "spiffe://dc1.example/agent/a"
)

// rig is a relay's Keeper with one agent's connection.
type rig struct {
	dc     *certstest.CA
	source *certstest.Source
	keeper *standing.Keeper
	banned map[string]bool // by serial
	peer   *standing.Peer
	ended  chan error
	proved chan *tls.Certificate
}

var errBanned = errors.New("banned")

// keep runs test in a bubble, with an agent's connection whose SVID lives for an hour.
func keep(t *testing.T, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		cloud, dc := certstest.NewCA(t, "cloud.example"), certstest.NewCA(t, "dc1.example")
		r := &rig{dc: dc, source: certstest.NewSource(cloud.Issue(t, relayID), cloud, dc), banned: map[string]bool{},
			ended: make(chan error, 2), proved: make(chan *tls.Certificate, 2)}
		r.keeper = standing.New(standing.Config{Source: r.source,
			Verify: func(chain []*x509.Certificate) (certs.Identity, error) {
				return certs.Verify(r.source, chain, x509.ExtKeyUsageClientAuth, time.Now())
			},
			Allow: func(proved []certs.Identity) error {
				for _, id := range proved {
					if r.banned[id.Serial] {
						return errBanned
					}
				}
				return nil
			}})
		go r.keeper.Run(t.Context())
		r.peer = r.add(t, r.issue(t, agentID))
		test(t, r)
	})
}

func (r *rig) issue(t *testing.T, id string) []*x509.Certificate {
	t.Helper()
	cert := r.dc.Issue(t, id, certstest.NotAfter(time.Now().Add(time.Hour)))
	return []*x509.Certificate{cert.Leaf}
}

func (r *rig) add(t *testing.T, chain []*x509.Certificate) *standing.Peer {
	t.Helper()
	p, err := r.keeper.Add(chain, standing.Conn{End: func(err error) { r.ended <- err }, Prove: func(c *tls.Certificate) { r.proved <- c }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantEnd wants the connection to end within 5 s (design §6, H10).
func (r *rig) wantEnd(t *testing.T, is func(error) bool) {
	t.Helper()
	select {
	case err := <-r.ended:
		if !is(err) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the connection stands after 5 s")
	}
	time.Sleep(time.Minute)
	if len(r.ended) > 0 {
		t.Error("ended twice")
	}
}

func (r *rig) wantAlive(t *testing.T, why string) {
	t.Helper()
	synctest.Wait()
	if len(r.ended) > 0 {
		t.Fatalf("%s: ended with %v", why, <-r.ended)
	}
}

func isReason(reason certs.Reason) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*certs.VerifyError](err)
		return ok && e.Reason == reason
	}
}

func TestAConnectionEndsWithItsIdentity(t *testing.T) { // H11
	keep(t, func(t *testing.T, r *rig) {
		time.Sleep(59 * time.Minute)
		r.wantAlive(t, "before its notAfter")
		time.Sleep(time.Minute)
		r.wantEnd(t, func(err error) bool { return errors.Is(err, standing.ErrExpired) })
	})
}

func TestAConnectionOutlivesAHundredSVIDs(t *testing.T) {
	keep(t, func(t *testing.T, r *rig) {
		first := r.peer.Identity()
		for range 100 {
			time.Sleep(30 * time.Minute)
			if err := r.peer.Renew(r.issue(t, agentID)); err != nil {
				t.Fatal(err)
			}
		}
		r.wantAlive(t, "after a hundred renewals")
		r.banned[first.Serial] = true // whoever had that key has renewed since
		r.keeper.Judge()
		r.wantEnd(t, func(err error) bool { return errors.Is(err, errBanned) })
	})
}

func TestOnlyTheSameIdentityRenews(t *testing.T) {
	keep(t, func(t *testing.T, r *rig) {
		stranger := certstest.NewCA(t, "dc1.example").Issue(t, agentID)
		for name, chain := range map[string][]*x509.Certificate{
			"another ID": r.issue(t, "spiffe://dc1.example/agent/b"), "another root": {stranger.Leaf}, "nothing": nil,
		} {
			if err := r.peer.Renew(chain); err == nil {
				t.Errorf("%s renewed", name)
			}
		}
		if got := r.peer.Identity().ID.String(); got != agentID {
			t.Errorf("the identity is %s now", got)
		}
		time.Sleep(time.Hour + time.Second)
		r.wantEnd(t, func(err error) bool { return errors.Is(err, standing.ErrExpired) })
	})
}

func TestAConnectionEndsWhenItsBundleGoes(t *testing.T) { // H10
	keep(t, func(t *testing.T, r *rig) {
		r.source.Distrust(r.dc.TrustDomain())
		r.wantEnd(t, isReason(certs.ReasonUnknownTrustDomain))
	})
}

func TestAConnectionEndsWhenItIsBanned(t *testing.T) { // H10
	keep(t, func(t *testing.T, r *rig) {
		chain := r.issue(t, agentID)
		other := r.add(t, chain)
		r.banned[other.Identity().Serial] = true
		r.keeper.Judge()
		r.wantEnd(t, func(err error) bool { return errors.Is(err, errBanned) })
		if _, err := r.keeper.Add(chain, standing.Conn{End: func(error) {}}); !errors.Is(err, errBanned) {
			t.Errorf("a banned one came back: %v", err)
		}
	})
}

func TestTheProcessesOwnNewSVIDIsProvedOnceEverywhere(t *testing.T) {
	keep(t, func(t *testing.T, r *rig) {
		cloud := certstest.NewCA(t, "cloud.example")
		r.source.Trust(cloud)
		time.Sleep(time.Minute)
		if len(r.proved) > 0 {
			t.Error("proved although only a bundle has changed")
		}
		newer := cloud.Issue(t, relayID)
		r.source.SetCertificate(newer)
		time.Sleep(10 * time.Second)
		r.add(t, r.issue(t, agentID)) // its handshake may have shown the old one
		time.Sleep(10 * time.Minute)
		for range 2 {
			select {
			case got := <-r.proved:
				if !got.Leaf.Equal(newer.Leaf) {
					t.Error("proved another one")
				}
			default:
				t.Fatal("not proved")
			}
		}
		if len(r.proved) > 0 {
			t.Error("proved twice")
		}
	})
}

func TestALeftConnectionIsForgotten(t *testing.T) {
	keep(t, func(t *testing.T, r *rig) {
		r.peer.Leave()
		r.peer.Leave()
		if n := r.keeper.Len(); n != 0 {
			t.Errorf("%d connections", n)
		}
		time.Sleep(2 * time.Hour)
		r.wantAlive(t, "it had left")
	})
}
