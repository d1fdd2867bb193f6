package bearer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/certs"
)

// A TxnToken is what a transaction token says (draft-ietf-oauth-transaction-tokens): who calls, on whose behalf and for what,
// for servers behind whoever has checked that.
type TxnToken struct {
	Audience    string         // aud: the trust domain that it is for
	Transaction string         // txn: the call's id
	Subject     string         // sub: the user, or where there is none the workload
	Scope       string         // scope
	Workload    string         // req_wl: the workload that calls
	Context     map[string]any // tctx: what is asked for
	Requester   map[string]any // rctx: how the requester was proved
}

// txnLife is how long a transaction token holds: a call's beginning.
const txnLife = time.Minute

// A TxnSigner signs transaction tokens by the key of an SVID, whose chain goes along as x5c, so that the trust domain's bundle
// is all that a server needs to check one. It is safe for concurrent use.
type TxnSigner struct {
	source SVID

	// mu guards: what was made of the SVID that was there last.
	mu   sync.Mutex
	last *txnKey
}

// SVID is where the SVID comes from; a certs.Source is one. It is asked anew for each token.
type SVID interface {
	Certificate() (*tls.Certificate, error)
	ID() certs.ID
}

type txnKey struct {
	leaf   []byte
	method jwt.SigningMethod
	key    crypto.PrivateKey
	header map[string]any
	issuer string
}

// NewTxnSigner returns a signer for the identity of source.
func NewTxnSigner(source SVID) *TxnSigner { return &TxnSigner{source: source} }

// Sign makes a token, in compact form. It costs a signature by the SVID's key.
func (s *TxnSigner) Sign(t *TxnToken, now time.Time) (string, error) {
	k, err := s.current()
	if err != nil {
		return "", err
	}
	claims := jwt.MapClaims{"iss": k.issuer, "iat": now.Unix(), "exp": now.Add(txnLife).Unix(), "aud": t.Audience, "txn": t.Transaction, "sub": t.Subject}
	for name, text := range map[string]string{"scope": t.Scope, "req_wl": t.Workload} {
		if text != "" {
			claims[name] = text
		}
	}
	for name, object := range map[string]map[string]any{"tctx": t.Context, "rctx": t.Requester} {
		if len(object) > 0 {
			claims[name] = object
		}
	}
	token := &jwt.Token{Header: k.header, Claims: claims, Method: k.method}
	signed, err := token.SignedString(k.key)
	if err != nil {
		return "", fmt.Errorf("signing a transaction token: %w", err)
	}
	return signed, nil
}

// current is the key of now, and what goes with it.
func (s *TxnSigner) current() (*txnKey, error) {
	cert, err := s.source.Certificate()
	if err != nil {
		return nil, fmt.Errorf("signing a transaction token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && bytes.Equal(s.last.leaf, cert.Certificate[0]) {
		return s.last, nil
	}
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("signing a transaction token: a key of kind %T cannot sign", cert.PrivateKey)
	}
	method := methodFor(signer.Public())
	if method == nil {
		return nil, fmt.Errorf("signing a transaction token: a key of kind %T cannot sign", signer.Public())
	}
	chain := make([]string, len(cert.Certificate))
	for i, der := range cert.Certificate {
		chain[i] = base64.StdEncoding.EncodeToString(der) // RFC 7515 §4.1.6: not base64url
	}
	s.last = &txnKey{leaf: cert.Certificate[0], method: method, key: cert.PrivateKey, issuer: s.source.ID().String(),
		header: map[string]any{"typ": "txntoken+jwt", "alg": method.Alg(), "kid": txnKeyID(cert), "x5c": chain}}
	return s.last, nil
}

func methodFor(public crypto.PublicKey) jwt.SigningMethod {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jwt.SigningMethodES256
		case elliptic.P384():
			return jwt.SigningMethodES384
		}
	case *rsa.PublicKey:
		return jwt.SigningMethodPS256
	}
	return nil
}

func txnKeyID(cert *tls.Certificate) string {
	sum := sha256.Sum256(cert.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// JWKS is the key of now as a JWK set, for servers that would rather read keys than chains.
func (s *TxnSigner) JWKS() ([]byte, error) {
	cert, err := s.source.Certificate()
	if err != nil {
		return nil, err
	}
	jwk, err := jwkset.NewJWKFromKey(cert.Leaf.PublicKey, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: txnKeyID(cert), USE: jwkset.UseSig}})
	if err != nil {
		return nil, fmt.Errorf("making a key set: %w", err)
	}
	return json.Marshal(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}})
}
