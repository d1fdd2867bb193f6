package policy

import (
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// A Decision says what was found on the way to a verdict, for the audit record and for carrying the call. It is filled
// as far as the gate came.
type Decision struct {
	// Tunnel is nil until the caller may know that the tunnel exists, so that nothing made from a Decision can tell a
	// tunnel that is hidden from the caller from one that is not there.
	Tunnel    *tunnel.Tunnel
	Principal authn.Principal
	Token     string // the token that was verified, as it came; a secret
	// Challenges say, of a call that was refused for want of them, which credentials are expected: values of WWW-Authenticate.
	Challenges []string
	Version    string // of the configuration that decided: Config.Version
	Rule       string // which rule decided: one of the constants
}

// What decides, in the order in which the gate asks. Each but RuleDefault can deny; the last two can allow.
const (
	RuleRequest     = "request"       // the request's form, or that the relay goes away: from before the gate is asked
	RuleSVID        = "svid"          // the caller's SVID: none, bad, or not to be judged now
	RulePath        = "path"          // the path can be read in two ways
	RuleTunnel      = "tunnel"        // there is no such tunnel
	RuleTrustDomain = "trust_domain"  // no rule of the tunnel names the caller's trust domain
	RuleCallers     = "callers"       // the tunnel's callers
	RuleProtocol    = "protocol"      // the tunnel carries another protocol
	RuleToken       = "token"         // what a token must be
	RuleScopes      = "scopes"        // its scopes
	RuleClaims      = "claims"        // its claims: roles and groups
	RuleStepUp      = "step_up"       // how strong a login it is of
	RuleUser        = "user"          // the user's password and groups
	RuleCode        = "second_factor" // the code of the user's second factor
	RuleApp         = "app"           // the client's secret and contract
	RuleSources     = "sources"       // the networks that it may be called from
	RuleAllow       = "allow"         // its expression
	RuleLimits      = "limits"        // how often, and how many at once
	RuleDefault     = "default"       // nothing denied, and the tunnel has no expression
)

// Order is what decides, in the order in which it is asked. Where a tunnel wants several proofs their rules come as the file has
// them.
var Order = []string{RuleRequest, RuleSVID, RulePath, RuleTunnel, RuleTrustDomain, RuleCallers, RuleProtocol, RuleSources, RuleToken, RuleScopes,
	RuleClaims, RuleStepUp, RuleApp, RuleUser, RuleCode, RuleAllow, RuleDefault, RuleLimits}
