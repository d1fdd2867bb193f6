package authn

import (
	"crypto/subtle"
	"encoding/base64"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
)

// CheckBinding refuses a token that is bound to another caller than the peer. A token with a `cnf` claim is worth
// nothing without the proof that the claim names: `x5t#S256` (RFC 8705 §3.1) is the certificate that the peer has
// shown; any other proof, DPoP among them, cannot be given here. The error is a *protocol.Error with token_invalid.
func CheckBinding(token *bearer.Token, peer *Peer) error {
	claim, bound := token.Claims["cnf"]
	if !bound {
		return nil
	}
	methods, ok := claim.(map[string]any)
	want, isText := methods["x5t#S256"].(string)
	if !ok || len(methods) != 1 || !isText {
		return protocol.Errorf(protocol.TokenInvalid, "the token is bound to a proof that this relay cannot check")
	}
	sum, shown := peer.Thumbprint()
	have := base64.RawURLEncoding.EncodeToString(sum[:])
	if !shown || subtle.ConstantTimeCompare([]byte(have), []byte(want)) != 1 {
		return protocol.Errorf(protocol.TokenInvalid, "the token is bound to another client certificate")
	}
	return nil
}
