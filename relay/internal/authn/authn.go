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
	"github.com/fairlead/fairlead/relay/internal/login"
)

// A Principal is who calls, and for whom, as far as it was proved. It can be compared.
type Principal struct {
	Caller certs.ID      // zero: the caller has shown no SVID
	App    *App          // nil: none was wanted, or none has shown its secret
	Secret [32]byte      // the hash of the one that it has shown
	Login  *login.User   // nil: no name and password were wanted, or none were good
	Second bool          // the user has shown the code of a second factor
	Token  *bearer.Token // nil: the tunnel wants none, or none was proved; shared, nobody changes it
}

// Grant is the principal in the words of a grant for the tunnel.
func (p Principal) Grant(tunnel protocol.TunnelName) *grant.Grant {
	g := &grant.Grant{Tunnel: string(tunnel), Caller: p.Caller, App: p.AppID(), User: p.User(), Issuer: p.Issuer(), Scopes: p.Scopes(), Groups: p.Groups(), AMR: p.AMR()}
	if p.Token != nil {
		g.ACR, _ = p.Token.Claims["acr"].(string)
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

// User is who has logged in, or else the token's subject; "" for nobody.
func (p Principal) User() string {
	switch {
	case p.Login != nil:
		return p.Login.Name
	case p.Token != nil:
		return p.Token.Subject
	}
	return ""
}

// DirectoryPrefix begins Issuer where a directory has said who the user is.
const DirectoryPrefix = "directory:"

// Issuer is who says who the user is: a directory, by its name behind DirectoryPrefix, or the token's issuer; "" for nobody.
func (p Principal) Issuer() string {
	switch {
	case p.Login != nil:
		return DirectoryPrefix + p.Login.Directory
	case p.Token != nil:
		return p.Token.Issuer
	}
	return ""
}

// Groups are those that a directory knows the user by. The caller does not change the slice.
func (p Principal) Groups() []string {
	if p.Login == nil {
		return nil
	}
	return p.Login.Groups
}

// AMR is by what means the user was proved (RFC 8176): what the token says, and what was shown here.
func (p Principal) AMR() []string {
	var amr []string
	if p.Token != nil {
		amr = p.Token.Texts("amr")
	}
	if p.Login != nil {
		amr = append(amr, "pwd")
	}
	if p.Second {
		amr = append(amr, "otp")
	}
	return amr
}

// Scopes are the token's scopes, none without a token. The caller does not change the slice.
func (p Principal) Scopes() []string {
	if p.Token == nil {
		return nil
	}
	return p.Token.Scopes
}
