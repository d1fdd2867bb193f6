package authority

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/fairlead/fairlead/certs"
)

// The settings are what the authority verifies SVIDs against.
var _ certs.Source = (*settings)(nil)

var errNoSVID = errors.New("an authority has no SVID")

func (s *settings) Certificate() (*tls.Certificate, error) { return nil, errNoSVID }
func (s *settings) ID() certs.ID                           { return certs.ID{} }
func (s *settings) Generation() uint64                     { return s.sequence }

func (s *settings) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	if td != s.td {
		return nil, fmt.Errorf("trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
	}
	return s.pool, nil
}
