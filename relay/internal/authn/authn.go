// Package authn holds what a caller proves of itself: the SVID of its connection and the bearer token of its request.
//
// It does not decide what that allows (package policy does), and verifies no signature of its own: packages certs and
// bearer do.
package authn

import (
	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

// A Principal is who calls, and for whom, as far as it was proved. It can be compared.
type Principal struct {
	Caller certs.ID      // zero: the caller has shown no SVID
	App    *App          // nil: none was wanted, or none has shown its secret
	Secret [32]byte      // the hash of the one that it has shown
	Token  *bearer.Token // nil: the tunnel wants none, or none was proved; shared, nobody changes it
}

// Grant is the principal in the words of a grant for the tunnel.
func (p Principal) Grant(tunnel protocol.TunnelName) *grant.Grant {
	g := &grant.Grant{Tunnel: string(tunnel), Caller: p.Caller, App: p.AppID(), User: p.User(), Issuer: p.Issuer(), Scopes: p.Scopes()}
	if p.Token != nil {
		g.ACR, _ = p.Token.Claims["acr"].(string)
		g.AMR = p.Token.Texts("amr")
	}
	return g
}

// AppID is the client id that was proved by a secret, "" for none.
func (p Principal) AppID() string {
	if p.App == nil {
		return ""
	}
	return p.App.ID
}

// User is the token's subject, "" without a token.
func (p Principal) User() string {
	if p.Token == nil {
		return ""
	}
	return p.Token.Subject
}

// Issuer is the token's issuer, "" without a token.
func (p Principal) Issuer() string {
	if p.Token == nil {
		return ""
	}
	return p.Token.Issuer
}

// Scopes are the token's scopes, none without a token. The caller does not change the slice.
func (p Principal) Scopes() []string {
	if p.Token == nil {
		return nil
	}
	return p.Token.Scopes
}
