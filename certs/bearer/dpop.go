package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	proofAge    = time.Minute      // how old a proof may be
	proofLeeway = 30 * time.Second // how far ahead its sender's clock may be
	proofsKept  = 1 << 16          // of each of two generations: some 5 MiB
	maxProof    = 4 << 10          // bytes
	maxProofID  = 256              // bytes of jti
)

// ErrTooManyProofs says that more proofs came within a minute than can be remembered. None is taken then, since a replay could
// not be told.
var ErrTooManyProofs = errors.New("more DPoP proofs came than can be remembered")

// A ProofTarget is what a DPoP proof must be made for.
type ProofTarget struct {
	Method string
	URL    string // of the request, as its sender has it: scheme, host and path; a query and a fragment do not count
	Token  string // the access token, as it came
	Key    string // the thumbprint that the token is bound to: cnf.jkt
}

// Proofs checks DPoP proofs (RFC 9449 §4.3), each of which is good once. It is safe for concurrent use; its zero value is
// ready.
type Proofs struct {
	// mu guards: the proofs that were taken, in two generations; every proof that is young enough to be taken again is in one.
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]struct{}
	since      time.Time // when the young one began
}

// Check takes a proof. The error is an *InvalidError, or ErrTooManyProofs. Nonces (RFC 9449 §8) are not asked for: the window
// is a minute, and within it a proof counts once.
func (p *Proofs) Check(raw string, to ProofTarget, now time.Time) error {
	if len(raw) > maxProof {
		return invalid(ReasonProof, fmt.Sprintf("DPoP proof: at most %d bytes are allowed", maxProof))
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || strings.ContainsAny(raw, "\r\n") {
		return invalid(ReasonProof, "DPoP proof: a JWT is expected")
	}
	header, err := decodePart("header", parts[0])
	if err != nil {
		return invalid(ReasonProof, "DPoP proof: "+detail(err))
	}
	claims, err := decodePart("payload", parts[1])
	if err != nil {
		return invalid(ReasonProof, "DPoP proof: "+detail(err))
	}
	thumbprint, err := checkProofKey(header, raw[:len(parts[0])+1+len(parts[1])], parts[2])
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(thumbprint), []byte(to.Key)) != 1 {
		return invalid(ReasonProof, "DPoP proof: it is by another key than the token's")
	}
	id, err := checkProofClaims(claims, to, now)
	if err != nil {
		return err
	}
	return p.remember(sha256.Sum256([]byte(thumbprint+"\x00"+id)), now)
}

// detail is an error's text without the words that stand in front of every token's.
func detail(err error) string {
	if e, ok := errors.AsType[*InvalidError](err); ok {
		return e.Detail
	}
	return err.Error()
}

// checkProofKey checks the header and the signature, and returns the key's thumbprint (RFC 7638).
func checkProofKey(header map[string]any, signed, signature string) (string, error) {
	typ, _ := header["typ"].(string)
	alg, _ := header["alg"].(string)
	jwk, _ := header["jwk"].(map[string]any)
	_, critical := header["crit"]
	_, unencoded := header["b64"]
	fits, known := algorithms[alg]
	switch {
	case !strings.EqualFold(typ, "dpop+jwt"):
		return "", invalid(ReasonProof, "DPoP proof: typ dpop+jwt is expected")
	case critical || unencoded:
		return "", invalid(ReasonProof, "DPoP proof: no extension is supported")
	case !known:
		return "", invalid(ReasonProof, "DPoP proof: algorithm "+quote(alg)+" is not allowed")
	case jwk == nil:
		return "", invalid(ReasonProof, "DPoP proof: a jwk is expected in its header")
	}
	text, err := json.Marshal(jwk)
	if err != nil {
		return "", invalid(ReasonProof, "DPoP proof: its jwk does not parse")
	}
	var m jwkset.JWKMarshal
	if json.Unmarshal(text, &m) != nil {
		return "", invalid(ReasonProof, "DPoP proof: its jwk does not parse")
	}
	m.USE, m.KEYOPS = "", nil
	k, usable, err := parseKey(m, false)
	if err != nil || !usable || !fits(k.public) {
		return "", invalid(ReasonProof, "DPoP proof: its jwk is no public key for "+alg)
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err != nil || jwt.GetSigningMethod(alg).Verify(signed, sig, k.public) != nil {
		return "", invalid(ReasonProof, "DPoP proof: the signature does not verify")
	}
	return thumbprint(&m), nil
}

// thumbprint is RFC 7638's, of the members as they were written: another spelling is another key, and fits no token.
func thumbprint(m *jwkset.JWKMarshal) string {
	var members any
	switch m.KTY {
	case jwkset.KtyEC:
		members = struct {
			CRV jwkset.CRV `json:"crv"`
			KTY jwkset.KTY `json:"kty"`
			X   string     `json:"x"`
			Y   string     `json:"y"`
		}{m.CRV, m.KTY, m.X, m.Y}
	case jwkset.KtyRSA:
		members = struct {
			E   string     `json:"e"`
			KTY jwkset.KTY `json:"kty"`
			N   string     `json:"n"`
		}{m.E, m.KTY, m.N}
	default:
		members = struct {
			CRV jwkset.CRV `json:"crv"`
			KTY jwkset.KTY `json:"kty"`
			X   string     `json:"x"`
		}{m.CRV, m.KTY, m.X}
	}
	b, err := json.Marshal(members)
	if err != nil { // strings: it cannot be
		panic(err)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func checkProofClaims(claims map[string]any, to ProofTarget, now time.Time) (id string, err error) {
	id, _ = claims["jti"].(string)
	method, _ := claims["htm"].(string)
	target, _ := claims["htu"].(string)
	hash, _ := claims["ath"].(string)
	issued, err := seconds(claims, "iat")
	sum := sha256.Sum256([]byte(to.Token))
	switch {
	case id == "" || len(id) > maxProofID:
		return "", invalid(ReasonProof, fmt.Sprintf("DPoP proof: a jti of 1 to %d bytes is expected", maxProofID))
	case method != to.Method:
		return "", invalid(ReasonProof, "DPoP proof: htm is another method")
	case !sameTarget(target, to.URL):
		return "", invalid(ReasonProof, "DPoP proof: htu is another URL")
	case err != nil || issued.IsZero():
		return "", invalid(ReasonProof, "DPoP proof: claim iat is missing or no time")
	case now.Sub(issued) > proofAge || issued.Sub(now) > proofLeeway:
		return "", invalid(ReasonProof, "DPoP proof: claim iat is not of now")
	case subtle.ConstantTimeCompare([]byte(hash), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1:
		return "", invalid(ReasonProof, "DPoP proof: ath is another token's")
	}
	return id, nil
}

// sameTarget compares as RFC 9449 §4.3 asks: without query and fragment, after the normalisation of RFC 3986 §6.2.2 and
// §6.2.3 in scheme, host, port and an empty path. The path itself is compared to the byte.
func sameTarget(a, b string) bool {
	x, ok := normal(a)
	y, alike := normal(b)
	return ok && alike && x == y
}

func normal(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return "", false
	}
	host, scheme := strings.ToLower(u.Host), strings.ToLower(u.Scheme)
	if port := map[string]string{"https": ":443", "http": ":80"}[scheme]; port != "" {
		host = strings.TrimSuffix(host, port)
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + path, true
}

// remember takes a proof that was not taken before. A generation is dropped when everything in it is too old to come again.
func (p *Proofs) remember(sum [sha256.Size]byte, now time.Time) error {
	const turn = proofAge + proofLeeway
	p.mu.Lock()
	defer p.mu.Unlock()
	switch age := now.Sub(p.since); {
	case age > 2*turn:
		p.young, p.old, p.since = make(map[[sha256.Size]byte]struct{}), nil, now
	case age > turn:
		p.young, p.old, p.since = make(map[[sha256.Size]byte]struct{}), p.young, now
	}
	_, young := p.young[sum]
	_, old := p.old[sum]
	switch {
	case young || old:
		return invalid(ReasonProof, "DPoP proof: it was used before")
	case len(p.young) >= proofsKept:
		return ErrTooManyProofs
	}
	p.young[sum] = struct{}{}
	return nil
}
