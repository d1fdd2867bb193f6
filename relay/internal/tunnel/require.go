package tunnel

import (
	"iter"
	"time"
)

// A Require is what must be proved about a call, beyond that its caller is one of the tunnel's: one proof, or several
// combined. Exactly one field is set. A nil Require asks for nothing.
type Require struct {
	All   []*Require // every one of them
	Any   []*Require // one of them; the first that holds
	SVID  bool       // an X.509-SVID, where callers are any
	Token *TokenRule
	App   *AppRule
	User  *UserRule
	Code  *CodeRule
}

// WantToken is a Require of one token.
func WantToken(rule *TokenRule) *Require { return &Require{Token: rule} }

// Each yields every proof that r names, itself included where it is one.
func (r *Require) Each() iter.Seq[*Require] {
	return func(yield func(*Require) bool) { r.each(yield) }
}

func (r *Require) each(yield func(*Require) bool) bool {
	if r == nil {
		return true
	}
	for _, list := range [][]*Require{r.All, r.Any} {
		for _, part := range list {
			if !part.each(yield) {
				return false
			}
		}
	}
	return len(r.All)+len(r.Any) > 0 || yield(r)
}

// A TokenRule is what a token must be. Keys of `token`.
type TokenRule struct {
	// Issuer is the only issuer whose tokens count, to the letter. Key `issuer`, required, one of tokens[].
	Issuer string
	// Scopes must all be in the token. Key `scopes`, default none.
	Scopes []string
	// Claims must each have one of the values named: roles and groups, say. A name with dots leads into objects
	// (realm_access.roles); a claim that is a list need have one of them among its entries. Key `claims`, default none.
	Claims []ClaimRule
	// Bound wants a token that is bound to its sender, by certificate (RFC 8705) or by DPoP (RFC 9449). One that is bound is
	// checked in any case. Key `bound`, default false.
	Bound bool
	// ACR, AMR and MaxAge ask for a login of a strength (RFC 9470): acr is one of ACR, amr has all of AMR, auth_time is at most
	// MaxAge ago. Keys `acr`, `amr`, `max_age`, default: any login.
	ACR    []string
	AMR    []string
	MaxAge time.Duration
}

// A ClaimRule is one entry of a TokenRule's claims: the claim's name, and the values of which it has one.
type ClaimRule struct {
	Name string
	Any  []string
}

// StepUp reports whether the rule asks for a login of some strength.
func (r *TokenRule) StepUp() bool { return len(r.ACR)+len(r.AMR) > 0 || r.MaxAge > 0 }

// An AppRule wants a client id and its secret, of an app whose contract has the tunnel. It has no keys.
type AppRule struct{}

// A UserRule wants a name and a password that a directory takes. Keys of `user`.
type UserRule struct {
	// Directory is one of directories[]. Key `directory`, required.
	Directory string
	// Groups are those of which the user is in one. Key `groups`, default: any user.
	Groups []string
}

// A CodeRule wants a code of the user's second factor. It stands behind what proves the user: a token or a user. Keys of `totp`, and
// of `radius`.
type CodeRule struct {
	// Server is one of radius[], which judges the code; "" is the file `totp` (RFC 6238). Key `server` of `radius`.
	Server string
	// Remember is for how long calls of the same user, caller and app need no other code. Key `remember`, default 0: each call
	// needs one of its own.
	Remember time.Duration
}
