package certs

import (
	"crypto/tls"
	"fmt"
)

// PostQuantum reports whether a key agreement also withstands a quantum computer: one of the hybrids with ML-KEM (FIPS 203).
func PostQuantum(agreed tls.CurveID) bool {
	switch agreed {
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024:
		return true
	}
	return false
}

// RequirePostQuantum makes config, one of this package's, refuse a connection whose key agreement is none: with a
// *VerifyError out of the handshake.
func RequirePostQuantum(config *tls.Config) {
	verify := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if !PostQuantum(state.CurveID) {
			return &VerifyError{Reason: ReasonKeyAgreement, Text: fmt.Sprintf("a post-quantum key agreement such as %s is expected (require_pq), the peer agreed on %s",
				tls.X25519MLKEM768, state.CurveID)}
		}
		return verify(state)
	}
}
