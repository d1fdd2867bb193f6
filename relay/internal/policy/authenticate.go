package policy

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// A refusal is why a proof does not hold.
type refusal struct {
	*protocol.Error
	rule      string
	challenge []string // which credentials would help; nil: none
	shown     bool     // there was a credential, and it does not hold
}

// authenticate asks for what the tunnel wants proved. What came for a proof that it does not want is not looked at.
func (t *trial) authenticate(ctx context.Context) *protocol.Error {
	no := t.prove(ctx, t.decision.Tunnel.Authenticate)
	if no == nil {
		return nil
	}
	t.decision.Rule, t.decision.Challenges = no.rule, no.challenge
	return no.Error
}

// prove adds to the principal what r proves.
func (t *trial) prove(ctx context.Context, r *tunnel.Require) *refusal {
	switch {
	case r == nil:
		return nil
	case r.All != nil:
		for _, part := range r.All {
			if no := t.prove(ctx, part); no != nil {
				return no
			}
		}
		return nil
	case r.Any != nil:
		return t.proveAny(ctx, r.Any)
	case r.Token != nil:
		return t.proveToken(ctx, r.Token)
	case r.App != nil:
		return t.proveApp()
	case r.User != nil:
		return t.proveUser(ctx, r.User)
	case r.Code != nil:
		return t.proveCode(ctx, r.Code)
	case r.SVID:
		return t.proveSVID()
	}
	return &refusal{Error: protocol.Errorf(protocol.PolicyUnavailable, "the policy of this tunnel cannot be evaluated now").
		WithCause(fmt.Errorf("tunnel %s wants a proof of no kind", t.decision.Tunnel.Name)), rule: RuleToken}
}

// proveAny is content with the first that holds. Where none does, the answer is about a credential that was there; else about
// the first, with the challenges of all.
func (t *trial) proveAny(ctx context.Context, parts []*tunnel.Require) *refusal {
	principal, token := t.decision.Principal, t.decision.Token
	var answer *refusal
	var challenges []string
	for _, part := range parts {
		no := t.prove(ctx, part)
		if no == nil {
			return nil
		}
		t.decision.Principal, t.decision.Token = principal, token
		challenges = append(challenges, no.challenge...)
		if answer == nil || no.shown && !answer.shown {
			answer = no
		}
	}
	if !answer.shown {
		answer.challenge = challenges
	}
	return answer
}

func (t *trial) proveSVID() *refusal {
	if !t.decision.Principal.Caller.IsZero() {
		return nil
	}
	return &refusal{Error: protocol.Errorf(protocol.CallerUnknown, "a client certificate with a SPIFFE ID is expected"), rule: RuleSVID}
}

// basic is the challenge of whoever takes a name and a secret.
var basic = []string{`Basic realm="fairlead", charset="UTF-8"`}

// assumeApp is proveApp of an explanation.
func (t *trial) assumeApp(id string) *refusal {
	no := &refusal{Error: protocol.Errorf(protocol.CredentialsMissing, "a client id and secret are expected"), rule: RuleApp, challenge: basic}
	if id == "" {
		return no
	}
	t.decision.Principal.App = &authn.App{ID: id}
	if no := t.appStands(t.decision.Principal); no != nil {
		t.decision.Principal.App = nil
		return no
	}
	t.decision.Principal.App = t.apps[id]
	return nil
}

// proveApp wants a client's secret, and its contract to have the tunnel.
func (t *trial) proveApp() *refusal {
	if a := t.request.Assumed; a != nil {
		return t.assumeApp(a.App)
	}
	c, shown, err := authn.ClientCredentials(t.request.Header, t.request.Proxy)
	no := &refusal{rule: RuleApp, challenge: basic, shown: shown}
	switch {
	case err != nil:
		no.Error = protocol.AsError(err)
		return no
	case !shown:
		no.Error = protocol.Errorf(protocol.CredentialsMissing, "a client id and secret are expected, by Basic or in %s and %s", authn.HeaderClientID, authn.HeaderClientSecret)
		return no
	}
	app, ok := t.apps.Find(c)
	if !ok {
		no.Error = protocol.Errorf(protocol.CredentialsInvalid, "the client id and secret are refused")
		return no
	}
	if !app.May(t.decision.Tunnel.Name) {
		no.Error, no.challenge = protocol.Errorf(protocol.Denied, "the app's contract does not have this tunnel"), nil
		return no
	}
	t.decision.Principal.App, t.decision.Principal.Secret = app, sha256.Sum256([]byte(c.Secret))
	return nil
}
