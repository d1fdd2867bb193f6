package authn

import (
	"crypto/subtle"
	"encoding/base64"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
)

// Binding says to what a token is bound by its claim cnf (RFC 7800): to a client certificate (RFC 8705 §3.1), to a key that
// proves itself by DPoP (RFC 9449 §6), or, all of it empty, to nobody: whoever has it may use it.
type Binding struct {
	Certificate string // x5t#S256
	Key         string // jkt
}

// BindingOf reads a token's binding. The error is a *protocol.Error with token_invalid: a token with a cnf is worth nothing
// without the proof that the claim names, and one that names another cannot be given here.
func BindingOf(token *bearer.Token) (Binding, error) {
	claim, bound := token.Claims["cnf"]
	if !bound {
		return Binding{}, nil
	}
	methods, ok := claim.(map[string]any)
	var b Binding
	for name, value := range methods {
		text, isText := value.(string)
		switch {
		case !isText || text == "":
			ok = false
		case name == "x5t#S256":
			b.Certificate = text
		case name == "jkt":
			b.Key = text
		default:
			ok = false
		}
	}
	if !ok || b == (Binding{}) {
		return Binding{}, protocol.Errorf(protocol.TokenInvalid, "the token is bound to a proof that this relay cannot check")
	}
	return b, nil
}

// CheckCertificate refuses a token that is bound to another certificate than the peer has shown, by a *protocol.Error with
// token_invalid.
func (b Binding) CheckCertificate(peer *Peer) error {
	if b.Certificate == "" {
		return nil
	}
	sum, shown := peer.Thumbprint()
	have := base64.RawURLEncoding.EncodeToString(sum[:])
	if !shown || subtle.ConstantTimeCompare([]byte(have), []byte(b.Certificate)) != 1 {
		return protocol.Errorf(protocol.TokenInvalid, "the token is bound to another client certificate")
	}
	return nil
}
