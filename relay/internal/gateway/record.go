package gateway

import (
	"time"

	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
)

// decide has the call decided, and the decision recorded before it takes effect. Whoever has shown a good SVID, or got through,
// is a stranger no longer. It returns the refusal, or that the record cannot be kept.
func (c *call) decide(door local) error {
	c.door, c.gate = door, c.gateway.cfg.Gate()
	d, refusal := c.gate.Decide(c.ctx, c.request(door))
	c.decision = d
	if c.proof.Proved != nil && (refusal == nil || !d.Principal.Caller.IsZero()) {
		c.proof.Proved()
	}
	if refusal == nil {
		refusal = c.limited()
	}
	return c.recorded(refusal)
}

// recorded writes the record of the decision, where there is an audit.
func (c *call) recorded(refusal error) error {
	write := c.gateway.cfg.Audit
	if write == nil {
		return refusal
	}
	r := c.record(audit.KindDecision)
	r.Decision, r.Rule, r.Code = audit.Allow, c.decision.Rule, protocol.OK.String()
	if refusal != nil {
		e := protocol.AsError(refusal)
		r.Decision, r.Code, r.Reason = audit.Deny, e.Code.String(), e.Sentence
	}
	err := write(r)
	c.admitted = refusal == nil
	if t := c.decision.Tunnel; err != nil && refusal == nil && t.AuditRequired {
		c.admitted = false
		return protocol.Errorf(protocol.AuditUnavailable, "this call cannot be recorded now").WithCause(err)
	}
	return refusal
}

// record is what both of a call's records say.
func (c *call) record(kind string) *audit.Record {
	d, p := c.decision, c.decision.Principal
	r := &audit.Record{Kind: kind, CallID: c.id, Tunnel: string(c.tunnelName()), Network: c.network.String(), App: p.AppID(), User: p.User(), Config: d.Version}
	if !p.Caller.IsZero() {
		r.Caller = p.Caller.String()
	}
	if kind != audit.KindDecision {
		return r
	}
	r.Issuer, r.Scopes, r.Groups, r.AMR = p.Issuer(), p.Scopes(), p.Groups(), p.AMR()
	if p.Token != nil {
		r.ACR, _ = p.Token.Claims["acr"].(string)
		for _, name := range c.gateway.cfg.AuditClaims() {
			if v, ok := p.Token.Claims[name]; ok {
				if r.Claims == nil {
					r.Claims = make(map[string]any)
				}
				r.Claims[name] = v
			}
		}
	}
	if c.source.IsValid() {
		r.Source = c.source.String()
	}
	if c.in != nil {
		r.Method, r.Host = c.in.Method, c.in.Host
		if c.network == protocol.HTTP {
			r.Path = c.in.URL.EscapedPath()
		}
	}
	return r
}

// recordEnd writes how an admitted call ended. It has taken effect by now: where this cannot be written the audit says so.
func (c *call) recordEnd() {
	if !c.admitted {
		return
	}
	r := c.record(audit.KindEnd)
	r.Code, r.Status, r.Up, r.Down, r.Duration = c.code.String(), c.status, c.up.Load(), c.down.Load(), time.Since(c.began).Milliseconds()
	_ = c.gateway.cfg.Audit(r)
}
