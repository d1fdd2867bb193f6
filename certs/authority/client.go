package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/fairlead/fairlead/certs"
)

// Ask carries a request to an authority and returns its answer. Who carries it need not be trusted.
type Ask func(ctx context.Context, request []byte) (answer []byte, err error)

// Issued is what an authority has issued, with the key, which was made here.
type Issued struct {
	Certificate *tls.Certificate // with its Leaf
	Bundle      *spiffebundle.Bundle
}

// State is what an authority says to everybody.
type State struct {
	Time   time.Time // by the authority's clock
	Bundle *spiffebundle.Bundle
	Bans   Bans // nil where they were not asked for
}

// Pin asks an authority that is only known by the fingerprint of a root for its bundle.
func Pin(ctx context.Context, ask Ask, td certs.TrustDomain, fingerprint [sha256.Size]byte) (*spiffebundle.Bundle, error) {
	text, err := stateText(nil)
	if err != nil {
		return nil, err
	}
	answer, err := ask(ctx, text)
	if err != nil {
		return nil, err
	}
	// The root is in the very bundle that it is to vouch for: its fingerprint says that it is the right one.
	var m message
	var s statement
	if json.Unmarshal(answer, &m) == nil && m.Refusal == nil && json.Unmarshal(m.Statement, &s) == nil {
		if b, err := spiffebundle.Parse(td, s.Bundle); err == nil {
			for _, c := range b.X509Authorities() {
				if Fingerprint(c) == fingerprint {
					_, err := open(answer, text, td, pool(c))
					return b, err
				}
			}
		}
	} else if m.Refusal != nil {
		return nil, m.Refusal
	}
	return nil, fmt.Errorf("%w: it has no root with the token's fingerprint", ErrNotTheAuthority)
}

func pool(roots ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range roots {
		p.AddCert(c)
	}
	return p
}

// Enrol uses a token up for an SVID, whose key is made here; bundle is Pin's.
func Enrol(ctx context.Context, ask Ask, t *Token, bundle *spiffebundle.Bundle) (*Issued, error) {
	key, csr, err := newCSR()
	if err != nil {
		return nil, err
	}
	return issued(ctx, ask, request{Enrol: &enrolRequest{Token: t.Number, CSR: csr, MAC: enrolMAC(t.Key[:], csr)}}, key, t.ID, bundle)
}

// Renew asks for another SVID of the same identity, with a new key.
func Renew(ctx context.Context, ask Ask, current *tls.Certificate, bundle *spiffebundle.Bundle) (*Issued, error) {
	id, err := certs.LeafID(current.Leaf)
	if err != nil {
		return nil, err
	}
	key, csr, err := newCSR()
	if err != nil {
		return nil, err
	}
	p, err := prove(current, renewLabel, csr)
	if err != nil {
		return nil, err
	}
	return issued(ctx, ask, request{Renew: &renewRequest{CSR: csr, Proof: *p}}, key, id, bundle)
}

// Fetch asks for the bundle, and with an SVID of the authority's for the bans too; bundle is the one at hand.
func Fetch(ctx context.Context, ask Ask, current *tls.Certificate, bundle *spiffebundle.Bundle) (*State, error) {
	text, err := stateText(current)
	if err != nil {
		return nil, err
	}
	s, err := said(ctx, ask, text, bundle)
	if err != nil {
		return nil, err
	}
	next, err := parseBundle(s, bundle)
	if err != nil {
		return nil, err
	}
	if current != nil && s.Bans == nil {
		s.Bans = Bans{}
	}
	return &State{s.Time, next, s.Bans}, nil
}

func stateText(current *tls.Certificate) ([]byte, error) {
	r := &stateRequest{Nonce: make([]byte, 16)}
	if _, err := rand.Read(r.Nonce); err != nil {
		return nil, err
	}
	if current != nil {
		var err error
		if r.Proof, err = prove(current, stateLabel, r.Nonce); err != nil {
			return nil, err
		}
	}
	return json.Marshal(request{State: r})
}

func said(ctx context.Context, ask Ask, text []byte, bundle *spiffebundle.Bundle) (*statement, error) {
	answer, err := ask(ctx, text)
	if err != nil {
		return nil, err
	}
	return open(answer, text, bundle.TrustDomain(), pool(bundle.X509Authorities()...))
}

// parseBundle refuses a bundle that is older than the one at hand.
func parseBundle(s *statement, before *spiffebundle.Bundle) (*spiffebundle.Bundle, error) {
	b, err := spiffebundle.Parse(before.TrustDomain(), s.Bundle)
	if err != nil || len(b.X509Authorities()) == 0 {
		return nil, fmt.Errorf("%w: its bundle does not parse", ErrNotTheAuthority)
	}
	have, _ := before.SequenceNumber()
	if next, _ := b.SequenceNumber(); next < have {
		return nil, fmt.Errorf("%w: its bundle has sequence number %d, %d was seen", ErrNotTheAuthority, next, have)
	}
	return b, nil
}

func issued(ctx context.Context, ask Ask, r request, key *ecdsa.PrivateKey, id certs.ID, bundle *spiffebundle.Bundle) (*Issued, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	s, err := said(ctx, ask, text, bundle)
	if err != nil {
		return nil, err
	}
	i := &Issued{Certificate: &tls.Certificate{Certificate: s.SVID, PrivateKey: key}}
	if i.Bundle, err = parseBundle(s, bundle); err != nil {
		return nil, err
	}
	chain, err := parseChain(s.SVID)
	if err != nil {
		return nil, fmt.Errorf("%w: its SVID does not parse", ErrNotTheAuthority)
	}
	got, err := certs.Verify(&settings{td: bundle.TrustDomain(), pool: pool(i.Bundle.X509Authorities()...)}, chain, x509.ExtKeyUsageAny, time.Now())
	if err != nil {
		return nil, err
	}
	if got.ID != id || !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: expected an SVID of %s with the key of the request", ErrNotTheAuthority, id)
	}
	i.Certificate.Leaf = chain[0]
	return i, nil
}

func newCSR() (*ecdsa.PrivateKey, []byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return key, csr, err
}

func prove(cert *tls.Certificate, label string, subject []byte) (*proof, error) {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if _, isECDSA := cert.PrivateKey.(*ecdsa.PrivateKey); !ok || !isECDSA {
		return nil, errors.New("an SVID of this authority's, with its ECDSA key, is expected")
	}
	sum := sha256.Sum256(signed(label, subject))
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return &proof{cert.Certificate, signature}, nil
}

// Bootstrap takes a token to a first SVID: it finds the authority by the token's fingerprint, then the relay by the
// authority's bundle, and only then uses the token up. shown is the relay's certificate chain once ask was called, nil where
// ask speaks to the authority itself.
func Bootstrap(ctx context.Context, ask Ask, t *Token, shown func() []*x509.Certificate) (*Issued, error) {
	bundle, err := Pin(ctx, ask, t.ID.TrustDomain(), t.Fingerprint)
	if err != nil {
		return nil, err
	}
	if shown != nil {
		src := &settings{td: bundle.TrustDomain(), pool: pool(bundle.X509Authorities()...)}
		if _, err := certs.Verify(src, shown(), x509.ExtKeyUsageServerAuth, time.Now()); err != nil {
			return nil, fmt.Errorf("the relay is not one of the token's authority: %w", err)
		}
	}
	return Enrol(ctx, ask, t, bundle)
}
