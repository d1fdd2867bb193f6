package grant

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// delegationLabel begins what an SVID's key signs.
const delegationLabel = "EXPERIMENTAL-fairlead-grant-key\x00"

// A Delegation says that a key's grants are those of the SVID that has signed it, until the SVID's end.
type Delegation struct {
	Chain     [][]byte // DER, the leaf first
	Key       []byte   // Ed25519's public key, 32 bytes
	Signature []byte   // certs.Sign over the label and Key
}

// A Signer is the grant key of one relay process. It is safe for concurrent use.
type Signer struct {
	source certs.Source

	// mu guards: the key, which is another one when the SVID is of another SPIFFE ID, and the delegation made last.
	mu     sync.Mutex
	id     certs.ID
	key    ed25519.PrivateKey
	header string // of every grant, encoded
	last   *Delegation
}

// NewSigner makes a key for the identity of source. It lives as long as the process and is never written anywhere.
func NewSigner(source certs.Source) (*Signer, error) {
	s := &Signer{source: source}
	return s, s.refresh()
}

// refresh makes a key where there is none of the source's identity. s.mu is held, or nobody else has s.
func (s *Signer) refresh() error {
	id := s.source.ID()
	if s.key != nil && s.id == id {
		return nil
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making the grant key: %w", err)
	}
	s.id, s.key, s.header, s.last = id, key, header(keyID(public)), nil
	return nil
}

// keyID is the kid of a key's grants.
func keyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func delegated(public ed25519.PublicKey) []byte { return append([]byte(delegationLabel), public...) }

// Delegation has the key signed by the SVID of now: once for each. The caller does not change it.
func (s *Signer) Delegation() (*Delegation, error) {
	cert, err := s.source.Certificate()
	if err != nil {
		return nil, fmt.Errorf("signing the grant key: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return nil, err
	}
	if s.last != nil && bytes.Equal(s.last.Chain[0], cert.Certificate[0]) {
		return s.last, nil
	}
	public := s.key.Public().(ed25519.PublicKey)
	signature, err := certs.Sign(cert, delegated(public))
	if err != nil {
		return nil, fmt.Errorf("signing the grant key: %w", err)
	}
	s.last = &Delegation{Chain: cert.Certificate, Key: public, Signature: signature}
	return s.last, nil
}

// Sign returns the grant as it crosses, good from now on for MaxLife. g is not changed: its times and its Relay do not count.
func (s *Signer) Sign(g *Grant, now time.Time) ([]byte, error) {
	s.mu.Lock()
	err := s.refresh()
	id, key, header := s.id, s.key, s.header
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c := g.claims()
	c.Issuer, c.Issued, c.Until = id.String(), now.Unix(), now.Add(MaxLife).Unix()
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding a grant: %w", err)
	}
	b := make([]byte, 0, len(header)+2+base64.RawURLEncoding.EncodedLen(len(payload))+base64.RawURLEncoding.EncodedLen(ed25519.SignatureSize))
	b = append(append(b, header...), '.')
	b = base64.RawURLEncoding.AppendEncode(b, payload)
	signature := ed25519.Sign(key, b)
	b = base64.RawURLEncoding.AppendEncode(append(b, '.'), signature)
	if len(b) > maxGrant {
		return nil, fmt.Errorf("a grant of at most %d bytes is expected, this principal's has %d", maxGrant, len(b))
	}
	return b, nil
}
