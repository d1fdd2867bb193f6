package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// Assumed is what explain takes for proved, since nobody is there to prove it: whose SVID it would be, and whose secret. A token
// is verified as ever, but not that it came from whom it is bound to.
type Assumed struct {
	Caller certs.ID // zero: without an SVID
	App    string   // "": without a secret
	User   string   // whose password it would be; "": none
	Groups []string // of the user, as the directory would say
}

// A Step is one question of the gate's, and its answer.
type Step struct {
	Rule   string `json:"rule"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"` // for the operator: it may say what no caller is told
}

// Explain is Decide, step by step: the last one decides.
func (g *Gate) Explain(ctx context.Context, r *Request) ([]Step, *Decision, error) {
	t := g.trial(r, g.now())
	var steps []Step
	for i, ask := range all {
		refusal := ask(t, ctx)
		s := Step{Rule: t.decision.Rule, Passed: refusal == nil}
		if refusal != nil {
			s.Detail = refusal.Error()
			return append(steps, s), t.decision, refusal
		}
		s.Rule, s.Detail = t.describe(i)
		steps = append(steps, s)
	}
	return steps, t.decision, nil
}

// describe says why step i of all has passed.
func (t *trial) describe(i int) (rule, detail string) {
	d, p := t.decision, t.decision.Principal
	switch i {
	case 0:
		if p.Caller.IsZero() {
			return RuleSVID, "none was shown: only tunnels with callers: any are looked at"
		}
		return RuleSVID, p.Caller.String()
	case 1:
		return RulePath, t.path
	case 2:
		return RuleTunnel, fmt.Sprintf("%s, whose rules name the caller's trust domain", d.Tunnel.Name)
	case 3:
		if d.Tunnel.AnyCaller {
			return RuleCallers, "any"
		}
		for _, pattern := range d.Tunnel.Callers {
			if pattern.Match(p.Caller) {
				return RuleCallers, pattern.String()
			}
		}
		return RuleCallers, ""
	case 4:
		return RuleProtocol, d.Tunnel.Network.String()
	case 5:
		if len(d.Tunnel.Sources) == 0 {
			return RuleSources, "any"
		}
		return RuleSources, t.request.Source.String()
	case 6:
		return "authenticate", proved(p, d.Tunnel)
	}
	if d.Tunnel.Allow == "" {
		return RuleDefault, "nothing denies, and the tunnel has no allow"
	}
	return RuleAllow, oneLine(d.Tunnel.Allow)
}

func proved(p authn.Principal, t *tunnel.Tunnel) string {
	var parts []string
	if p.App != nil {
		parts = append(parts, fmt.Sprintf("app %s", p.App.ID))
	}
	if p.Login != nil {
		parts = append(parts, fmt.Sprintf("user %s of directory %s, groups [%s]", p.Login.Name, p.Login.Directory, strings.Join(p.Login.Groups, ", ")))
	}
	if p.Second {
		parts = append(parts, "a second factor")
	}
	if p.Token != nil {
		parts = append(parts, fmt.Sprintf("token of %s for %s, scopes [%s]", p.Token.Issuer, p.Token.Subject, strings.Join(p.Token.Scopes, " ")))
	}
	switch {
	case t.Authenticate == nil:
		return "nothing is wanted (token: none)"
	case parts == nil:
		return "the SVID is enough"
	}
	return strings.Join(parts, "; ")
}

// Named finds a tunnel, for whoever asks about one by its name.
func (g *Gate) Named(name protocol.TunnelName) (*tunnel.Tunnel, bool) { return g.table.Named(name) }

// Unsure says why Again may be wrong of a call of the past at the tunnel, of which the audit keeps no more than package audit says
// and these claims; "" where it is right.
func (g *Gate) Unsure(t *tunnel.Tunnel, claims map[string]any) string {
	if a := g.allows[t]; a != nil {
		for _, name := range []string{"request.headers", "request.query"} {
			if a.reads[name] {
				return "allow reads " + name + ", which no audit keeps"
			}
		}
		if a.reads["token.claims"] && len(claims) == 0 {
			return "allow reads token.claims, and none was recorded (audit.claims)"
		}
	}
	for need := range t.Authenticate.Each() {
		if need.Token == nil {
			continue
		}
		if need.Token.MaxAge > 0 {
			return "token.max_age asks for auth_time, which no audit keeps"
		}
		for _, c := range need.Token.Claims {
			name, _, _ := strings.Cut(c.Name, ".")
			if _, ok := claims[name]; !ok {
				return "token.claims asks for " + c.Name + ", which was not recorded (audit.claims)"
			}
		}
	}
	return ""
}
