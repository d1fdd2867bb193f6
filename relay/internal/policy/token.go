package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// proveToken verifies the token, that it came from whom it is bound to, and what the rule wants of it.
func (t *trial) proveToken(ctx context.Context, rule *tunnel.TokenRule) *refusal {
	raw, scheme, err := authn.AccessToken(t.request.Header, t.request.Proxy)
	if err != nil {
		e := protocol.AsError(err)
		return refuseToken(rule, e, e.Code != protocol.TokenMissing)
	}
	token, err := t.tokens.VerifyFrom(ctx, rule.Issuer, raw)
	if err != nil {
		return refuseToken(rule, tokenError(err), true)
	}
	if err := t.checkSender(rule, token, raw, scheme); err != nil {
		return refuseToken(rule, err, true)
	}
	if no := checkClaims(rule, token, t.now); no != nil {
		return no
	}
	t.decision.Rule = RuleToken
	t.decision.Principal.Token, t.decision.Token = token, raw
	return nil
}

func tokenError(err error) *protocol.Error {
	if refused, ok := errors.AsType[*bearer.InvalidError](err); ok {
		return protocol.Errorf(protocol.TokenInvalid, "the token is refused: %s", refused.Detail).WithCause(err)
	}
	return protocol.Errorf(protocol.IdentityUnavailable, "the token cannot be verified now").WithCause(err)
}

// refuseToken says which token is wanted (RFC 6750 §3, RFC 9449 §7.1).
func refuseToken(rule *tunnel.TokenRule, e *protocol.Error, shown bool) *refusal {
	no := &refusal{Error: e, rule: RuleToken, shown: shown}
	params := ""
	switch e.Code {
	case protocol.TokenMissing:
	case protocol.TokenInvalid:
		params = `, error="invalid_token"`
	default:
		return no
	}
	no.challenge = []string{`Bearer realm="fairlead"` + params}
	if rule.Bound {
		no.challenge = append(no.challenge, `DPoP realm="fairlead", algs="`+strings.Join(bearer.Algorithms(), " ")+`"`+params)
	}
	return no
}

// checkSender refuses a token that somebody else was given (RFC 8705, RFC 9449 §7).
func (t *trial) checkSender(rule *tunnel.TokenRule, token *bearer.Token, raw, scheme string) *protocol.Error {
	binding, err := authn.BindingOf(token)
	if err != nil {
		return protocol.AsError(err)
	}
	if err := binding.CheckCertificate(t.request.Peer); err != nil && t.request.Assumed == nil {
		return protocol.AsError(err)
	}
	switch dpop := scheme == authn.SchemeDPoP; {
	case binding == authn.Binding{} && rule.Bound:
		return protocol.Errorf(protocol.TokenInvalid, "this tunnel wants a token that is bound to its sender, by certificate or by DPoP")
	case t.request.Assumed != nil:
		return nil // nobody is there to prove it
	case binding.Key == "" && dpop:
		return protocol.Errorf(protocol.TokenInvalid, "the token is not bound to a DPoP key, and cannot come by the scheme DPoP")
	case binding.Key != "" && !dpop:
		return protocol.Errorf(protocol.TokenInvalid, "the token is bound to a DPoP key, and must come by the scheme DPoP with a proof")
	case binding.Key == "":
		return nil
	}
	proofs := t.request.Header["Dpop"]
	if len(proofs) != 1 || t.proofs == nil {
		return protocol.Errorf(protocol.TokenInvalid, "one DPoP proof is expected, in the header DPoP, got %d", len(proofs))
	}
	err = t.proofs.Check(proofs[0], bearer.ProofTarget{Method: t.request.Method, URL: t.request.url(), Token: raw, Key: binding.Key}, t.now)
	if refused, ok := errors.AsType[*bearer.InvalidError](err); ok {
		return protocol.Errorf(protocol.TokenInvalid, "%s", refused.Detail).WithCause(err)
	}
	if err != nil {
		return protocol.Errorf(protocol.IdentityUnavailable, "the DPoP proof cannot be taken now").WithCause(err)
	}
	return nil
}

// url is the request's as its sender has it. A CONNECT has no path.
func (r *Request) url() string { return r.Scheme + "://" + r.Host + r.Path }

// checkClaims asks for scopes, claims and the strength of the login, in this order.
func checkClaims(rule *tunnel.TokenRule, token *bearer.Token, now time.Time) *refusal {
	var lacks []string
	for _, scope := range rule.Scopes {
		if !slices.Contains(token.Scopes, scope) {
			lacks = append(lacks, scope)
		}
	}
	if lacks != nil {
		return &refusal{Error: protocol.Errorf(protocol.ScopeMissing, "this tunnel wants scope %s", strings.Join(lacks, " ")), rule: RuleScopes, shown: true,
			challenge: []string{fmt.Sprintf(`Bearer realm="fairlead", error="insufficient_scope", scope=%q`, strings.Join(rule.Scopes, " "))}}
	}
	for _, c := range rule.Claims {
		if !slices.ContainsFunc(token.Texts(c.Name), func(have string) bool { return slices.Contains(c.Any, have) }) {
			return &refusal{Error: protocol.Errorf(protocol.ScopeMissing, "this tunnel wants one of %s in the token's %s", strings.Join(c.Any, ", "), c.Name), rule: RuleClaims, shown: true,
				challenge: []string{`Bearer realm="fairlead", error="insufficient_scope"`}}
		}
	}
	if rule.StepUp() {
		return checkLogin(rule, token, now)
	}
	return nil
}

// leeway is how far the clocks of the relay and the token's issuer may differ.
const leeway = 30 * time.Second

// checkLogin asks how the user has logged in, and when (RFC 9470 §3). A token that does not say is too weak.
func checkLogin(rule *tunnel.TokenRule, token *bearer.Token, now time.Time) *refusal {
	acr, _ := token.Claims["acr"].(string)
	at, _ := token.Claims["auth_time"].(float64)
	amr := token.Texts("amr")
	switch {
	case len(rule.ACR) > 0 && !slices.Contains(rule.ACR, acr):
	case slices.ContainsFunc(rule.AMR, func(method string) bool { return !slices.Contains(amr, method) }):
	case rule.MaxAge > 0 && (at <= 0 || now.Sub(time.Unix(int64(at), 0)) > rule.MaxAge+leeway):
	default:
		return nil
	}
	challenge := `Bearer realm="fairlead", error="insufficient_user_authentication", error_description="a stronger or newer login is wanted"`
	if len(rule.ACR) > 0 {
		challenge += fmt.Sprintf(`, acr_values=%q`, strings.Join(rule.ACR, " "))
	}
	if rule.MaxAge > 0 {
		challenge += fmt.Sprintf(`, max_age="%d"`, int64(rule.MaxAge.Seconds()))
	}
	return &refusal{Error: protocol.Errorf(protocol.MFARequired, "this tunnel wants a stronger or newer login than the token is of"), rule: RuleStepUp, shown: true,
		challenge: []string{challenge}}
}
