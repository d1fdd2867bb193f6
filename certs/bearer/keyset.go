package bearer

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	maxKeys = 100
	minRSA  = 2048 // bits
	maxRSA  = 8192 // bits; more is a way to burn our CPU
)

// useJWTSVID marks the keys in a SPIFFE bundle that verify JWT-SVIDs (SPIFFE Trust Domain and Bundle, §4.2.2).
const useJWTSVID jwkset.USE = "jwt-svid"

// A keySet is the public keys of one issuer; it does not change. Its address is its version: the same keys fetched
// again keep theirs.
type keySet struct{ keys []key }

type key struct {
	kid    string // "" where the set gives none
	alg    string // "" where the set does not bind the key to one
	public any
}

// parseKeySet reads a JWK set. What an issuer must never publish, or what shows that this is no JWK set, refuses the
// whole of it, so that the old keys stay: private keys, HMAC keys, weak RSA, nothing usable. Keys for other purposes
// and of kinds that we do not use are passed over.
func parseKeySet(b []byte, svid bool) (*keySet, error) {
	var doc struct {
		Keys []jwkset.JWKMarshal `json:"keys"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, errors.New("not a JSON Web Key Set") // the cause may quote the text, and say little
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("key set of %d keys: at most %d are allowed", len(doc.Keys), maxKeys)
	}
	set := &keySet{}
	for i, m := range doc.Keys {
		k, use, err := parseKey(m, svid)
		if err != nil {
			return nil, fmt.Errorf("key %d (kid %s): %w", i+1, quote(m.KID), err)
		}
		if use {
			set.keys = append(set.keys, k)
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New("key set has no key to verify signatures with")
	}
	return set, nil
}

func parseKey(m jwkset.JWKMarshal, svid bool) (k key, use bool, err error) {
	switch {
	case m.KTY == jwkset.KtyOct || m.K != "":
		return key{}, false, errors.New("a symmetric key has no place in a public key set")
	case m.D != "" || m.P != "" || m.Q != "" || m.DP != "" || m.DQ != "" || m.QI != "" || len(m.OTH) > 0:
		return key{}, false, errors.New("a private key has no place in a public key set")
	case m.USE != "" && m.USE != jwkset.UseSig && !(svid && m.USE == useJWTSVID),
		len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key{}, false, nil
	}
	// Only the bare key goes to the library: certificates and their URLs are nothing that we would believe.
	bare := jwkset.JWKMarshal{KTY: m.KTY, CRV: m.CRV, X: m.X, Y: m.Y, N: m.N, E: m.E}
	if m.KTY == jwkset.KtyOKP && m.CRV == jwkset.CrvEd25519 {
		bare.ALG = jwkset.AlgEdDSA // the library's own validation wants it
	}
	jwk, err := jwkset.NewJWKFromMarshal(bare, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if errors.Is(err, jwkset.ErrUnsupportedKey) {
		return key{}, false, nil
	}
	if err != nil {
		return key{}, false, fmt.Errorf("does not parse: %w", err)
	}
	if r, ok := jwk.Key().(*rsa.PublicKey); ok {
		if n := r.N.BitLen(); n < minRSA || n > maxRSA {
			return key{}, false, fmt.Errorf("RSA key of %d bits: %d to %d are allowed", n, minRSA, maxRSA)
		}
	}
	return key{kid: m.KID, alg: m.ALG.String(), public: jwk.Key()}, fitsAny(jwk.Key()), nil
}

// find returns the keys for a token's kid and algorithm. Without a kid there must be exactly one key that fits: trying
// all of them would let a token choose how much work it makes.
func (s *keySet) find(kid, alg string) []jwt.VerificationKey {
	var found []jwt.VerificationKey
	for _, k := range s.keys {
		if (kid == "" || k.kid == kid) && (k.alg == "" || k.alg == alg) && algorithms[alg](k.public) {
			found = append(found, k.public)
		}
	}
	if kid == "" && len(found) > 1 {
		return nil
	}
	return found
}

// has reports whether any key has this kid, whatever it is good for.
func (s *keySet) has(kid string) bool {
	return slices.ContainsFunc(s.keys, func(k key) bool { return k.kid == kid })
}
