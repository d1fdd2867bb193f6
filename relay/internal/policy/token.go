package policy

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

// checkToken verifies the token that the tunnel wants. A tunnel that wants none does not look at what came.
func (t *trial) checkToken(ctx context.Context) *protocol.Error {
	rule := t.decision.Tunnel.Token
	if rule == nil {
		return nil
	}
	t.decision.Rule = RuleToken
	raw, err := authn.Bearer(t.request.Header, t.request.Proxy)
	if err != nil {
		return protocol.AsError(err)
	}
	token, err := t.tokens.Verify(ctx, raw)
	if invalid, ok := errors.AsType[*bearer.InvalidError](err); ok {
		return protocol.Errorf(protocol.TokenInvalid, "the token is refused: %s", invalid.Detail).WithCause(err)
	}
	if err != nil {
		return protocol.Errorf(protocol.IdentityUnavailable, "the token cannot be verified now").WithCause(err)
	}
	if token.Issuer != rule.Issuer {
		return protocol.Errorf(protocol.TokenInvalid, "this tunnel wants a token of issuer %s", rule.Issuer)
	}
	if err := authn.CheckBinding(token, t.request.Peer); err != nil {
		return protocol.AsError(err)
	}
	t.decision.Principal.Token, t.decision.Token = token, raw
	return nil
}

func (t *trial) checkScopes() *protocol.Error {
	rule := t.decision.Tunnel.Token
	if rule == nil || len(rule.Scopes) == 0 {
		return nil
	}
	t.decision.Rule = RuleScopes
	has := t.decision.Principal.Token.Scopes
	var lacks []string
	for _, scope := range rule.Scopes {
		if !slices.Contains(has, scope) {
			lacks = append(lacks, scope)
		}
	}
	if lacks == nil {
		return nil
	}
	return protocol.Errorf(protocol.ScopeMissing, "this tunnel wants scope %s", strings.Join(lacks, " "))
}
