package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"
)

// A request is one of three, in JSON.
type request struct {
	Enrol *enrolRequest `json:"enrol,omitempty"`
	Renew *renewRequest `json:"renew,omitempty"`
	State *stateRequest `json:"state,omitempty"`
}

// enrolRequest asks for the SVID of a token. The token's key stays where it is: it proves the CSR, so that whoever carries
// the request cannot put another CSR in its place.
type enrolRequest struct {
	Token string `json:"token"` // its number
	CSR   []byte `json:"csr"`   // PKCS #10; its key counts, and nothing else in it
	MAC   []byte `json:"mac"`   // HMAC-SHA-256 with the token's key over the CSR, as signed has it
}

// renewRequest asks for another SVID of the identity that proves it.
type renewRequest struct {
	CSR   []byte `json:"csr"`
	Proof proof  `json:"proof"` // over CSR
}

// stateRequest asks for the bundle, and with a proof for the bans.
type stateRequest struct {
	Nonce []byte `json:"nonce"`
	Proof *proof `json:"proof,omitempty"` // over Nonce
}

// proof is an SVID and a signature by its key (ECDSA with SHA-256) over what signed makes.
type proof struct {
	Chain     [][]byte `json:"chain"` // DER, the leaf first
	Signature []byte   `json:"signature"`
}

// A message is what the authority answers: a refusal, or a statement in JSON with the issuing certificate and a signature by
// its key.
type message struct {
	Refusal   *Refusal `json:"refusal,omitempty"`
	Statement []byte   `json:"statement,omitempty"`
	Issuer    []byte   `json:"issuer,omitempty"` // DER
	Signature []byte   `json:"signature,omitempty"`
}

type statement struct {
	About  []byte          `json:"about"` // SHA-256 of the request
	Time   time.Time       `json:"time"`
	SVID   [][]byte        `json:"svid,omitempty"` // DER, the leaf first
	Bundle json.RawMessage `json:"bundle"`         // SPIFFE's format
	Bans   Bans            `json:"bans,omitempty"`
}

// Reason says why the authority refuses.
type Reason string

// The reasons.
const (
	BadRequest      Reason = "bad_request"
	TokenInvalid    Reason = "token_invalid"
	IdentityInvalid Reason = "identity_invalid"
	IdentityExpired Reason = "identity_expired"
	Banned          Reason = "identity_banned"
	Unavailable     Reason = "unavailable"
)

// A Refusal is the authority's no. It holds no secret.
type Refusal struct {
	Reason Reason `json:"reason"`
	Text   string `json:"text"`
}

func (r *Refusal) Error() string { return "the authority refuses: " + r.Text }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// What signatures and MACs are over begins with one of these, so that none stands for another. They begin with EXPERIMENTAL
// as the link's own label does.
const (
	enrolLabel     = "EXPERIMENTAL-fairlead-enrol"
	renewLabel     = "EXPERIMENTAL-fairlead-renew"
	stateLabel     = "EXPERIMENTAL-fairlead-state"
	statementLabel = "EXPERIMENTAL-fairlead-statement"
)

func signed(label string, subject []byte) []byte { return append([]byte(label+"\x00"), subject...) }

func enrolMAC(key, csr []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(signed(enrolLabel, csr))
	return mac.Sum(nil)
}

// parseCSR returns the key that a CSR is for, which its sender has proved to hold.
func parseCSR(der []byte) (*ecdsa.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		return nil, refuse(BadRequest, "a certificate request (PKCS #10) that its own key has signed is expected")
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, refuse(BadRequest, "a key on P-256 is expected")
	}
	return key, nil
}

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	parsed := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if parsed[i], err = x509.ParseCertificate(der); err != nil {
			return nil, refuse(BadRequest, "certificate %d does not parse", i+1)
		}
	}
	return parsed, nil
}
