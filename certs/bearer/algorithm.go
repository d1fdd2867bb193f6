package bearer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"maps"
	"slices"
)

// algorithms are those that an issuer may be allowed, with the keys that fit each. There is none and no HMAC among
// them, so no configuration can let those in.
var algorithms = map[string]func(key any) bool{
	"ES256": onCurve(elliptic.P256()),
	"ES384": onCurve(elliptic.P384()),
	"RS256": isRSA,
	"PS256": isRSA,
	"EdDSA": func(key any) bool { _, ok := key.(ed25519.PublicKey); return ok },
}

// Algorithms lists the signature algorithms that an issuer may be allowed, sorted.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms)) }

func onCurve(curve elliptic.Curve) func(any) bool {
	return func(key any) bool {
		k, ok := key.(*ecdsa.PublicKey)
		return ok && k.Curve == curve
	}
}

func isRSA(key any) bool { _, ok := key.(*rsa.PublicKey); return ok }

// fitsAny reports whether any algorithm at all can use the key.
func fitsAny(key any) bool {
	for _, fits := range algorithms {
		if fits(key) {
			return true
		}
	}
	return false
}
