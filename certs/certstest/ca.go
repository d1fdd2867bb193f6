// Package certstest makes certificates for tests and local trials: a CA per trust domain, SVIDs good and odd, a
// certs.Source that can be changed while it is in use, and PEM files for real binaries.
//
// It keeps nothing and protects nothing; the product does not import it. Times come from time.Now, so that it works
// inside a testing/synctest bubble.
package certstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// backdate is how far certificates begin before now: an hour would hide mistakes with clocks, none would find them all.
const backdate = time.Minute

// A CA is the authority of one trust domain, in memory.
type CA struct {
	td   certs.TrustDomain
	cert *x509.Certificate
	key  crypto.Signer
	up   []*x509.Certificate // what an issued chain carries behind the leaf: intermediates, never the root
	root *CA
}

// MakeCA makes the self-signed root of a trust domain, valid for ten years.
func MakeCA(trustDomain string) (*CA, error) {
	td, err := certs.ParseTrustDomain(trustDomain)
	if err != nil {
		return nil, err
	}
	ca := &CA{td: td}
	ca.root = ca
	return ca, ca.selfSign()
}

// NewCA is MakeCA for tests.
func NewCA(tb testing.TB, trustDomain string) *CA {
	tb.Helper()
	ca, err := MakeCA(trustDomain)
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

func (ca *CA) selfSign() (err error) {
	if ca.key, err = newKey(); err != nil {
		return err
	}
	template := ca.template("root")
	ca.cert, err = sign(template, template, ca.key.Public(), ca.key)
	return err
}

// Intermediate returns a CA under ca, of the same trust domain; what it issues carries its certificate.
func (ca *CA) Intermediate(tb testing.TB) *CA {
	tb.Helper()
	sub := &CA{td: ca.td, root: ca.root}
	var err error
	if sub.key, err = newKey(); err != nil {
		tb.Fatal(err)
	}
	if sub.cert, err = sign(ca.template("intermediate"), ca.cert, sub.key.Public(), ca.key); err != nil {
		tb.Fatal(err)
	}
	sub.up = append([]*x509.Certificate{sub.cert}, ca.up...)
	return sub
}

func (ca *CA) template(kind string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Fairlead test"}, CommonName: ca.td.Name() + " " + kind},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: ca.td.Name()}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// TrustDomain returns the trust domain that the CA speaks for.
func (ca *CA) TrustDomain() certs.TrustDomain { return ca.td }

// Certificate returns the CA's own certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Root returns the certificate that a bundle of this trust domain holds.
func (ca *CA) Root() *x509.Certificate { return ca.root.cert }

// Make issues an SVID for a workload: valid for an hour, for client and server, key P-256, unless options say
// otherwise. Its Leaf is set.
func (ca *CA) Make(id string, options ...Option) (tls.Certificate, error) {
	o := leafOptions{uris: []string{id}, issuer: ca.cert, issuerKey: ca.key}
	now := time.Now()
	o.template = &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Fairlead test"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(time.Hour),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, option := range options {
		option(&o)
	}
	return o.issue(ca.up)
}

// Issue is Make for tests.
func (ca *CA) Issue(tb testing.TB, id string, options ...Option) tls.Certificate {
	tb.Helper()
	cert, err := ca.Make(id, options...)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("signing a test certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func newKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[0] &= 0x7f           // a positive number of at most 16 bytes
	b[0] |= 1
	return new(big.Int).SetBytes(b[:])
}
