package authn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

// counting is a source that counts how often a bundle was asked for: once a verification.
type counting struct {
	*certstest.Source
	mu    sync.Mutex
	roots int
}

func (c *counting) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	c.mu.Lock()
	c.roots++
	c.mu.Unlock()
	return c.Source.Roots(td)
}

func (c *counting) verifications() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roots
}

func chain(t *testing.T, cert tls.Certificate) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func reason(err error) certs.Reason {
	if refused, ok := errors.AsType[*certs.VerifyError](err); ok {
		return refused.Reason
	}
	return ""
}

func TestIdentityIsProvedOnceAndAgainWhenItMayHaveChanged(t *testing.T) {
	ca, other := certstest.NewCA(t, "cloud.example"), certstest.NewCA(t, "dc1.example")
	src := &counting{Source: certstest.NewSource(ca.Issue(t, "spiffe://cloud.example/relay/a"), ca)}
	peer := NewPeer(chain(t, ca.Issue(t, "spiffe://cloud.example/api/orders")))
	now := time.Now()
	for range 3 {
		id, err := peer.Identity(src, now)
		if err != nil || id.ID.String() != "spiffe://cloud.example/api/orders" {
			t.Fatalf("got %v, %v", id, err)
		}
	}
	if n := src.verifications(); n != 1 {
		t.Errorf("verified %d times, want once", n)
	}
	src.Trust(other) // another generation
	if _, err := peer.Identity(src, now); err != nil || src.verifications() != 2 {
		t.Errorf("got %v after %d verifications, want a second one", err, src.verifications())
	}
	src.Distrust(ca.TrustDomain())
	if _, err := peer.Identity(src, now); reason(err) != certs.ReasonUnknownTrustDomain {
		t.Errorf("got %v after the bundle was taken away", err) // H10
	}
}

func TestIdentityEndsAtItsNotAfter(t *testing.T) { // H11
	ca := certstest.NewCA(t, "cloud.example")
	src := certstest.NewSource(ca.Issue(t, "spiffe://cloud.example/relay/a"), ca)
	peer := NewPeer(chain(t, ca.Issue(t, "spiffe://cloud.example/api/orders")))
	id, err := peer.Identity(src, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Identity(src, id.NotAfter.Add(time.Second)); reason(err) != certs.ReasonExpired {
		t.Errorf("got %v after the end", err)
	}
}

func TestAnotherSourceOfTheSameGenerationIsAsked(t *testing.T) {
	ca, other := certstest.NewCA(t, "cloud.example"), certstest.NewCA(t, "cloud.example")
	own := ca.Issue(t, "spiffe://cloud.example/relay/a")
	before, after := certstest.NewSource(own, ca), certstest.NewSource(own, other)
	if before.Generation() != after.Generation() {
		t.Fatal("the sources are of different generations, which proves nothing")
	}
	peer := NewPeer(chain(t, ca.Issue(t, "spiffe://cloud.example/api/orders")))
	now := time.Now()
	if _, err := peer.Identity(before, now); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Identity(after, now); reason(err) != certs.ReasonUntrusted {
		t.Errorf("got %v", err)
	}
}

func TestARefusalIsRememberedForAWhileOnly(t *testing.T) {
	ca := certstest.NewCA(t, "cloud.example")
	src := &counting{Source: certstest.NewSource(ca.Issue(t, "spiffe://cloud.example/relay/a"), ca)}
	peer := NewPeer(chain(t, certstest.NewCA(t, "cloud.example").Issue(t, "spiffe://cloud.example/api/orders")))
	now := time.Now()
	for range 3 {
		if _, err := peer.Identity(src, now); reason(err) != certs.ReasonUntrusted {
			t.Fatalf("got %v", err)
		}
	}
	if n := src.verifications(); n != 1 {
		t.Errorf("verified %d times within a moment, want once", n)
	}
	if _, err := peer.Identity(src, now.Add(refusalHolds+time.Second)); err == nil || src.verifications() != 2 {
		t.Errorf("got %v after %d verifications, want a second one", err, src.verifications())
	}
}

func TestNobodyHasNoIdentity(t *testing.T) {
	ca := certstest.NewCA(t, "cloud.example")
	src := certstest.NewSource(ca.Issue(t, "spiffe://cloud.example/relay/a"), ca)
	for _, peer := range []*Peer{nil, NewPeer(nil)} {
		if _, err := peer.Identity(src, time.Now()); reason(err) != certs.ReasonNoCertificate || peer.Shown() {
			t.Errorf("got %v", err)
		}
	}
}

func TestRequestsOfOneConnectionShareThePeer(t *testing.T) {
	ca := certstest.NewCA(t, "cloud.example")
	src := certstest.NewSource(ca.Issue(t, "spiffe://cloud.example/relay/a"), ca)
	peer := NewPeer(chain(t, ca.Issue(t, "spiffe://cloud.example/api/orders")))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				if _, err := peer.Identity(src, time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		src.Trust(ca)
	}
	group.Wait()
}
