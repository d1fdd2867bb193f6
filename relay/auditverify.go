package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
)

// VerifyAudit checks the files of one audit, a relay's or an agent's: that no line was altered, removed or moved, and that the
// checkpoints are signed. Where bundles (PEM files, by trust domain) are given, whoever signed must be of one of them.
func VerifyAudit(files []string, bundles map[string]string) (*audit.Report, error) {
	if len(bundles) == 0 {
		return audit.Verify(files, nil)
	}
	trusted := make(trusted, len(bundles))
	for name, file := range bundles {
		td, err := certs.ParseTrustDomain(name)
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: expected certificates in PEM", file)
		}
		trusted[td] = pool
	}
	return audit.Verify(files, trusted)
}

// FindAudit returns the records of one call.
func FindAudit(files []string, callID string) ([]*audit.Line, error) {
	return audit.Find(files, callID)
}

// trusted is a source of bundles and nothing else.
type trusted map[certs.TrustDomain]*x509.CertPool

var errNoIdentity = errors.New("there is no identity here")

func (trusted) Certificate() (*tls.Certificate, error) { return nil, errNoIdentity }
func (trusted) ID() certs.ID                           { return certs.ID{} }
func (trusted) Generation() uint64                     { return 0 }

func (t trusted) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	if pool := t[td]; pool != nil {
		return pool, nil
	}
	return nil, certs.ErrUnknownTrustDomain
}
