package policy

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/fairlead/fairlead/protocol"
)

// checkAllow asks the tunnel's expression. An expression that cannot be evaluated for this request denies.
func (t *trial) checkAllow() *protocol.Error {
	tun := t.decision.Tunnel
	if tun.Allow == "" {
		t.decision.Rule = RuleDefault
		return nil
	}
	t.decision.Rule = RuleAllow
	allow := t.allows[tun]
	if allow == nil {
		return protocol.Errorf(protocol.PolicyUnavailable, "the policy of this tunnel cannot be evaluated now").
			WithCause(fmt.Errorf("tunnel %s has an expression that was not compiled", tun.Name))
	}
	ok, err := allow.eval(&facts{trial: t})
	switch {
	case errors.Is(err, errBroken):
		return protocol.Errorf(protocol.PolicyUnavailable, "the policy of this tunnel cannot be evaluated now").WithCause(err)
	case err != nil:
		return denied().WithCause(fmt.Errorf("evaluating allow: %s", safe(err.Error())))
	case !ok:
		return denied()
	}
	return nil
}

func denied() *protocol.Error {
	return protocol.Errorf(protocol.Denied, "the policy of this tunnel does not allow this call")
}

// safe makes CEL's words fit for a log: they may quote the request.
func safe(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most]
	}
	return strconv.QuoteToASCII(s)
}
