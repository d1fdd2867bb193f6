package certstest

import (
	"crypto/tls"
	"crypto/x509"
	"sync"

	"github.com/fairlead/fairlead/certs"
)

// A Source is a certs.Source in memory, which a test changes while it is in use. Every change grows the generation.
type Source struct {
	// mu guards:
	mu         sync.Mutex
	cert       *tls.Certificate
	id         certs.ID
	err        error
	roots      map[certs.TrustDomain]*x509.CertPool
	generation uint64
}

var _ certs.Source = (*Source)(nil)

// NewSource returns a source with that SVID which believes those CAs. A certificate without a good ID has the zero ID.
func NewSource(cert tls.Certificate, cas ...*CA) *Source {
	s := &Source{roots: make(map[certs.TrustDomain]*x509.CertPool)}
	s.SetCertificate(cert)
	for _, ca := range cas {
		s.Trust(ca)
	}
	return s
}

// SetCertificate replaces the SVID.
func (s *Source) SetCertificate(cert tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert, s.id, s.err = &cert, certs.ID{}, nil
	if cert.Leaf != nil {
		if id, err := certs.LeafID(cert.Leaf); err == nil {
			s.id = id
		}
	}
	s.generation++
}

// Fail makes Certificate return err until SetCertificate.
func (s *Source) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.generation++
}

// Trust makes cas the whole bundle of their trust domain.
func (s *Source) Trust(ca *CA, more ...*CA) {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Root())
	for _, other := range more {
		pool.AddCert(other.Root())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roots[ca.td] = pool
	s.generation++
}

// Distrust removes the bundle of a trust domain.
func (s *Source) Distrust(td certs.TrustDomain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roots, td)
	s.generation++
}

// Certificate implements certs.Source.
func (s *Source) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return s.cert, nil
}

// ID implements certs.Source.
func (s *Source) ID() certs.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Roots implements certs.Source.
func (s *Source) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pool := s.roots[td]; pool != nil {
		return pool, nil
	}
	return nil, certs.ErrUnknownTrustDomain
}

// Generation implements certs.Source.
func (s *Source) Generation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}
