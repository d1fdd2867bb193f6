// Package grant makes and checks grants: a relay's signed statement that a principal may use a tunnel, which the agent
// checks before it judges the call by its own rules.
//
// A grant is a JWT (RFC 7519, explicitly typed as RFC 8725 §3.11 asks) signed by Ed25519 with a key of the relay's process.
// That key is worth as much as the relay's SVID, which signs it once (Delegation): a signature by the SVID's own key for
// each grant would cost more than the rest of a call.
//
// The package does not decide who gets a grant (relay/internal/policy does) nor what one is good for (agent/internal/guard),
// and it knows no wire.
package grant

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs"
)

const (
	// MaxLife is for how long a grant may say that it holds.
	MaxLife = time.Minute
	// Leeway is how far the clocks of relay and agent may differ.
	Leeway = 30 * time.Second

	mediaType = "fairlead-grant+jwt"
	maxGrant  = 16 << 10 // bytes
)

// A Grant says who calls which tunnel. Whoever gets one from a Keyring shares it: nobody changes it.
type Grant struct {
	Relay  certs.ID // whose word it is; set by Keyring.Check
	Tunnel string
	Caller certs.ID // the workload; zero where the tunnel admits callers without an SVID
	App    string   // the client that has shown its secret, "" for none
	User   string   // the token's sub, or the name that a directory knows; "" for none
	Issuer string   // who says so: the token's iss, or the directory's name
	Scopes []string
	Groups []string
	ACR    string   // how the user logged in (OpenID Connect), where that is known
	AMR    []string // by which means (RFC 8176)
	Issued time.Time
	Until  time.Time
}

// claims is a grant as it is signed.
type claims struct {
	Issuer string   `json:"iss"`
	Issued int64    `json:"iat"`
	Until  int64    `json:"exp"`
	Tunnel string   `json:"tunnel"`
	Caller string   `json:"caller,omitempty"`
	App    string   `json:"app,omitempty"`
	User   string   `json:"sub,omitempty"`
	By     string   `json:"sub_iss,omitempty"`
	Scope  string   `json:"scope,omitempty"`
	Groups []string `json:"groups,omitempty"`
	ACR    string   `json:"acr,omitempty"`
	AMR    []string `json:"amr,omitempty"`
}

// Errors of Keyring.Check. A grant that is none of the others is ErrInvalid.
var (
	ErrInvalid    = errors.New("grant is invalid")
	ErrUnknownKey = errors.New("grant is signed by a key that no relay has shown")
	ErrExpired    = errors.New("grant does not hold now")
)

func (g *Grant) claims() claims {
	c := claims{Issued: g.Issued.Unix(), Until: g.Until.Unix(), Tunnel: g.Tunnel, App: g.App, User: g.User, By: g.Issuer,
		Scope: strings.Join(g.Scopes, " "), Groups: g.Groups, ACR: g.ACR, AMR: g.AMR}
	if !g.Caller.IsZero() {
		c.Caller = g.Caller.String()
	}
	return c
}

func (c *claims) grant() (*Grant, error) {
	g := &Grant{Tunnel: c.Tunnel, App: c.App, User: c.User, Issuer: c.By, Scopes: strings.Fields(c.Scope), Groups: c.Groups,
		ACR: c.ACR, AMR: c.AMR, Issued: time.Unix(c.Issued, 0), Until: time.Unix(c.Until, 0)}
	var err error
	if c.Caller != "" {
		if g.Caller, err = certs.ParseID(c.Caller); err != nil {
			return nil, fmt.Errorf("%w: caller: %w", ErrInvalid, err)
		}
	}
	switch life := g.Until.Sub(g.Issued); {
	case g.Tunnel == "":
		return nil, fmt.Errorf("%w: expected a tunnel", ErrInvalid)
	case life <= 0 || life > MaxLife:
		return nil, fmt.Errorf("%w: expected a life of at most %s, got %s", ErrInvalid, MaxLife, life)
	}
	return g, nil
}

// holds says whether the grant holds now.
func (g *Grant) holds(now time.Time) error {
	switch {
	case now.After(g.Until.Add(Leeway)):
		return fmt.Errorf("%w: it ended at %s, here it is %s (clock_skew?)", ErrExpired, stamp(g.Until), stamp(now))
	case now.Before(g.Issued.Add(-Leeway)):
		return fmt.Errorf("%w: it begins at %s, here it is %s (clock_skew?)", ErrExpired, stamp(g.Issued), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// header is a grant's JOSE header, to the byte: a key's grants all have the same one.
func header(kid string) string {
	b, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Typ string `json:"typ"`
		Kid string `json:"kid"`
	}{"EdDSA", mediaType, kid})
	if err != nil { // three strings: it cannot be
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
