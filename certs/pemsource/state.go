package pemsource

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// A state is what one reading of the files gave; it does not change. It is a certs.Source of its own, so that a new SVID
// is verified against the new bundles before anybody sees either.
type state struct {
	cert       *tls.Certificate // nil: bundles alone
	id         certs.ID
	roots      map[certs.TrustDomain]*x509.CertPool
	bundles    map[certs.TrustDomain][]*x509.Certificate // what is in roots
	sum        [sha256.Size]byte
	generation uint64
}

func (s *state) Certificate() (*tls.Certificate, error) {
	if s.cert == nil {
		return nil, ErrNoSVID
	}
	return s.cert, nil
}

func (s *state) ID() certs.ID { return s.id }

func (s *state) Generation() uint64 { return s.generation }

func (s *state) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	if pool := s.roots[td]; pool != nil {
		return pool, nil
	}
	return nil, fmt.Errorf("trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
}

// load reads the files and returns before itself when they are the same.
func load(config Config, before *state) (*state, error) {
	f, err := readStable(config, before)
	if err != nil {
		return nil, err
	}
	if before != nil && f.sum == before.sum {
		return before, nil
	}
	s := &state{sum: f.sum, roots: make(map[certs.TrustDomain]*x509.CertPool, len(f.bundles)),
		bundles: make(map[certs.TrustDomain][]*x509.Certificate, len(f.bundles))}
	for td, pem := range f.bundles {
		if s.bundles[td], err = parseBundle(pem); err != nil {
			return nil, fmt.Errorf("bundle of %s, %s: %w", td, config.Bundles[td], err)
		}
		s.roots[td] = x509.NewCertPool()
		for _, c := range s.bundles[td] {
			s.roots[td].AddCert(c)
		}
	}
	if config.CertFile == "" {
		return s, nil
	}
	cert, err := tls.X509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", config.CertFile, config.KeyFile, err)
	}
	s.cert = &cert
	if err := s.checkOwn(); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", config.CertFile, err)
	}
	return s, nil
}

// checkOwn verifies our SVID as a peer will, as far as our bundles go.
func (s *state) checkOwn() error {
	chain := make([]*x509.Certificate, 0, len(s.cert.Certificate))
	for _, der := range s.cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, c)
	}
	s.cert.Leaf = chain[0]
	_, err := certs.Verify(s, chain, x509.ExtKeyUsageAny, time.Now())
	if refusal, ok := errors.AsType[*certs.VerifyError](err); ok && refusal.Reason == certs.ReasonUnknownTrustDomain {
		err = nil // all else was checked before, and an agent need not have the bundle of its own trust domain
	}
	if err != nil {
		return err
	}
	s.id, err = certs.LeafID(s.cert.Leaf)
	return err
}

func (s *state) expiries() []certs.Expiry {
	var all []certs.Expiry
	if s.cert != nil {
		all = append(all, certs.SVIDExpiry(s.id, s.cert.Leaf))
	}
	for td, roots := range s.bundles {
		all = append(all, certs.BundleExpiry(td, roots))
	}
	return all
}
