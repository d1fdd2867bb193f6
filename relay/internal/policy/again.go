package policy

import (
	"context"
	"slices"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// Again judges a call whose principal was proved before: one that runs while the rules change, or one of the past. It is for the
// tunnel that r names; now is what an expression sees. What was proved is proved: no signature is checked again, and no token's
// end. The error is as Decide's; it never blocks.
func (g *Gate) Again(p authn.Principal, r *Request, now time.Time) (*Decision, error) {
	t := g.trial(r, now)
	t.decision.Principal = p
	for _, ask := range again {
		if refusal := ask(t, context.Background()); refusal != nil {
			return t.decision, refusal
		}
	}
	return t.decision, nil
}

// stillProved asks whether what was proved is what the tunnel wants now.
func (t *trial) stillProved() *protocol.Error {
	no := t.stands(t.decision.Tunnel.Authenticate)
	if no == nil {
		return nil
	}
	t.decision.Rule = no.rule
	return no.Error
}

func (t *trial) stands(r *tunnel.Require) *refusal {
	p := t.decision.Principal
	switch {
	case r == nil:
		return nil
	case r.All != nil:
		for _, part := range r.All {
			if no := t.stands(part); no != nil {
				return no
			}
		}
		return nil
	case r.Any != nil:
		var first *refusal
		for _, part := range r.Any {
			no := t.stands(part)
			if no == nil {
				return nil
			}
			if first == nil {
				first = no
			}
		}
		return first
	case r.Token != nil:
		if p.Token == nil || p.Token.Issuer != r.Token.Issuer {
			return &refusal{Error: protocol.Errorf(protocol.TokenInvalid, "this tunnel wants a token of issuer %s", r.Token.Issuer), rule: RuleToken}
		}
		return checkClaims(r.Token, p.Token, t.now)
	case r.App != nil:
		return t.appStands(p)
	case r.User != nil:
		if p.Login == nil || p.Login.Directory != r.User.Directory {
			return &refusal{Error: protocol.Errorf(protocol.CredentialsMissing, "a user's name and password are expected, by Basic"), rule: RuleUser}
		}
		return checkGroups(r.User, p.Login)
	case r.Code != nil:
		if !p.Second {
			return &refusal{Error: protocol.Errorf(protocol.MFARequired, "this tunnel wants a second factor"), rule: RuleCode}
		}
		return nil
	}
	return t.proveSVID()
}

// appStands asks whether the app is there still, with the secret that it has shown, and with a contract.
func (t *trial) appStands(p authn.Principal) *refusal {
	no := &refusal{Error: protocol.Errorf(protocol.CredentialsInvalid, "the client id and secret are refused"), rule: RuleApp}
	if p.App == nil {
		return no
	}
	app := t.apps[p.App.ID]
	switch {
	case app == nil, !slices.Contains(app.Secrets, p.Secret) && p.Secret != [32]byte{}: // of the past: the audit keeps no hash
		return no
	case !app.May(t.decision.Tunnel.Name):
		no.Error = protocol.Errorf(protocol.Denied, "the app's contract does not have this tunnel")
		return no
	}
	return nil
}
