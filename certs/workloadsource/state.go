package workloadsource

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/fairlead/fairlead/certs"
)

// A state is one answer of the API; it does not change. It is a certs.Source of its own, so that a new SVID is verified
// against the new bundles before anybody sees either.
type state struct {
	cert       *tls.Certificate
	id         certs.ID
	bundles    map[certs.TrustDomain][]*x509.Certificate
	pools      map[certs.TrustDomain]*x509.CertPool
	generation uint64
}

func newState(answer *workloadapi.X509Context) (*state, error) {
	if len(answer.SVIDs) == 0 {
		return nil, errors.New("expected an SVID, the API has none for this process")
	}
	s := &state{bundles: map[certs.TrustDomain][]*x509.Certificate{}, pools: map[certs.TrustDomain]*x509.CertPool{}}
	for _, b := range answer.Bundles.Bundles() {
		roots := b.X509Authorities()
		if len(roots) == 0 {
			continue // a trust domain without roots vouches for nobody
		}
		pool := x509.NewCertPool()
		for _, c := range roots {
			if !c.IsCA {
				return nil, fmt.Errorf("bundle of %s: a certificate is not of a CA", b.TrustDomain())
			}
			pool.AddCert(c)
		}
		s.bundles[b.TrustDomain()], s.pools[b.TrustDomain()] = roots, pool
	}
	svid := answer.SVIDs[0]
	s.cert = &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, c := range svid.Certificates {
		s.cert.Certificate = append(s.cert.Certificate, c.Raw)
	}
	identity, err := certs.Verify(s, svid.Certificates, x509.ExtKeyUsageAny, time.Now())
	if err != nil {
		return nil, err
	}
	s.id = identity.ID
	return s, nil
}

func (s *state) equal(o *state) bool {
	same := func(a, b *x509.Certificate) bool { return a.Equal(b) }
	if !slices.EqualFunc(s.cert.Certificate, o.cert.Certificate, bytes.Equal) || len(s.bundles) != len(o.bundles) {
		return false
	}
	for td, roots := range s.bundles {
		if !slices.EqualFunc(roots, o.bundles[td], same) {
			return false
		}
	}
	return true
}

func (s *state) Certificate() (*tls.Certificate, error) { return s.cert, nil }

func (s *state) ID() certs.ID { return s.id }

func (s *state) Generation() uint64 { return s.generation }

func (s *state) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	if pool := s.pools[td]; pool != nil {
		return pool, nil
	}
	return nil, fmt.Errorf("trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
}

func (s *state) expiries() []certs.Expiry {
	all := []certs.Expiry{certs.SVIDExpiry(s.id, s.cert.Leaf)}
	for td, roots := range s.bundles {
		all = append(all, certs.BundleExpiry(td, roots))
	}
	return all
}
