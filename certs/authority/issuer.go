package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/fairlead/fairlead/certs"
)

const (
	rootLife   = 10 * 365 * 24 * time.Hour
	issuerLife = 365 * 24 * time.Hour
	backdate   = 30 * time.Second // others' clocks may be behind

	// A serial number is the number of its line, which began with a token, and a number of its own: who bans a stolen key's
	// SVID by its serial number bans with it all that was renewed from it.
	serialBytes = 16
	lineBytes   = 8
)

// issuer is the issuing key and what it was read with.
type issuer struct {
	settings *settings
	key      crypto.Signer
}

// Serial is a certificate's serial number as certs.Identity has it.
func Serial(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

// issue signs an SVID.
func (i *issuer) issue(id certs.ID, dns []string, key any, line []byte, now time.Time) (*x509.Certificate, error) {
	serial := make([]byte, serialBytes)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	copy(serial, line)
	end := now.Add(i.settings.life)
	if end.After(i.settings.issuer.NotAfter) {
		end = i.settings.issuer.NotAfter
	}
	return sign(&x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		URIs:                  []*url.URL{id.URL()},
		DNSNames:              dns,
		NotBefore:             now.Add(-min(backdate, i.settings.life/10)),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, i.settings.issuer, key, i.key)
}

// newCA makes a CA certificate of the trust domain: a root where parent is nil, else an intermediate that may issue leaves of
// this trust domain alone.
func newCA(td certs.TrustDomain, key, parentKey crypto.Signer, parent *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	serial := make([]byte, serialBytes)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] &= 0x7f
	c := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{Organization: []string{"Fairlead"}, CommonName: td.Name() + " root"},
		URIs:                  []*url.URL{td.ID().URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if parent == nil {
		return sign(c, c, key.Public(), key)
	}
	c.Subject.CommonName = td.Name() + " issuer"
	c.KeyUsage |= x509.KeyUsageDigitalSignature // of statements
	c.NotAfter = now.Add(issuerLife)
	if c.NotAfter.After(parent.NotAfter) {
		c.NotAfter = parent.NotAfter
	}
	c.MaxPathLenZero = true
	c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{td.Name()}, true // the name says DNS, and means all of them
	return sign(c, parent, key.Public(), parentKey)
}

func sign(template, parent *x509.Certificate, pub any, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func sameKey(key crypto.Signer, cert *x509.Certificate) error {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || !pub.Equal(cert.PublicKey) {
		return fmt.Errorf("the key of %s is not its certificate's", cert.Subject.CommonName)
	}
	return nil
}

// sign makes a statement the authority's.
func (i *issuer) sign(s *statement) (*message, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(signed(statementLabel, text))
	signature, err := i.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing a statement: %w", err)
	}
	return &message{Statement: text, Issuer: i.settings.issuer.Raw, Signature: signature}, nil
}

// ErrNotTheAuthority is wrapped where an answer is not what the authority says to the request.
var ErrNotTheAuthority = errors.New("the answer is not the authority's")

// open returns the statement of an answer to a request, once it is the authority's: its issuer is one of the trust domain td
// under roots.
func open(answer, request []byte, td certs.TrustDomain, roots *x509.CertPool) (*statement, error) {
	var m message
	if err := json.Unmarshal(answer, &m); err != nil {
		return nil, fmt.Errorf("%w: it does not parse", ErrNotTheAuthority)
	}
	if m.Refusal != nil {
		return nil, m.Refusal
	}
	c, err := x509.ParseCertificate(m.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: its certificate does not parse", ErrNotTheAuthority)
	}
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil || !c.IsCA || len(c.URIs) != 1 || c.URIs[0].String() != td.IDString() {
		return nil, fmt.Errorf("%w: it is not signed under a root of %s", ErrNotTheAuthority, td)
	}
	if c.CheckSignature(x509.ECDSAWithSHA256, signed(statementLabel, m.Statement), m.Signature) != nil {
		return nil, fmt.Errorf("%w: its signature does not hold", ErrNotTheAuthority)
	}
	var s statement
	if err := json.Unmarshal(m.Statement, &s); err != nil {
		return nil, fmt.Errorf("%w: its statement does not parse", ErrNotTheAuthority)
	}
	if sum := sha256.Sum256(request); string(sum[:]) != string(s.About) {
		return nil, fmt.Errorf("%w: it answers another request", ErrNotTheAuthority)
	}
	return &s, nil
}
