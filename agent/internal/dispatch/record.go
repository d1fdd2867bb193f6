package dispatch

import (
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
)

// recorded writes the record of the decision before it takes effect, where there is an audit. It returns the refusal, or that
// the record cannot be kept.
func (c *call) recorded(refusal *protocol.Error) *protocol.Error {
	write := c.d.cfg.Audit
	if write == nil {
		return refusal
	}
	r := c.record(audit.KindDecision)
	r.Method, r.Path = c.open.Method, c.open.Path
	r.Decision, r.Code = audit.Allow, protocol.OK.String()
	if refusal != nil {
		r.Decision, r.Code, r.Reason = audit.Deny, refusal.Code.String(), refusal.Sentence
	}
	if g := c.report.Grant; g != nil {
		r.Issuer, r.Scopes, r.Groups, r.ACR, r.AMR = g.Issuer, g.Scopes, g.Groups, g.ACR, g.AMR
	}
	err := write(r)
	c.admitted = refusal == nil
	if err != nil && refusal == nil && c.tunnel.cfg.AuditRequired {
		c.admitted = false
		return protocol.Errorf(protocol.AuditUnavailable, "the agent cannot record this call now").WithCause(err)
	}
	return refusal
}

// record is what both of a call's records say.
func (c *call) record(kind string) *audit.Record {
	r := &audit.Record{Kind: kind, CallID: c.open.CallID, Tunnel: string(c.open.Tunnel), Network: c.open.Network.String()}
	if g := c.report.Grant; g != nil {
		r.Peer, r.App, r.User = g.Relay.String(), g.App, g.User
		if !g.Caller.IsZero() {
			r.Caller = g.Caller.String()
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
	r.Code, r.Sent, r.Status, r.Up, r.Down, r.Duration = c.report.Code.String(), c.report.Sent, c.report.Status, c.report.In, c.report.Out,
		c.report.Total.Milliseconds()
	_ = c.d.cfg.Audit(r)
}
