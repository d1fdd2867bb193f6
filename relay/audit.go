package relay

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
)

// openAudit opens the file that decisions are recorded in, where there is one.
func (r *Relay) openAudit() error {
	conf := r.current.Load().file.Audit
	if conf.File == "" {
		return nil
	}
	l, err := audit.Open(audit.Config{File: conf.File, Signer: r.source, Rotate: conf.Rotate, Keep: conf.Keep, State: r.auditState})
	if err != nil {
		return err
	}
	r.audit = l
	return nil
}

// runAudit keeps the audit until ctx ends. The caller closes it once nobody writes any more.
func (r *Relay) runAudit(ctx context.Context, group *errgroup.Group) {
	if r.audit != nil {
		group.Go(func() error { return r.audit.Run(ctx) })
	}
}

func (r *Relay) closeAudit() error {
	if r.audit == nil {
		return nil
	}
	return r.audit.Close()
}

// auditState says when records are lost, and when they are kept again.
func (r *Relay) auditState(err error) {
	if err == nil {
		r.metrics.auditFailing.Set(0)
		r.log.Info("the audit is written again")
		return
	}
	r.metrics.auditFailing.Set(1)
	r.log.Error("the audit cannot be written: tunnels that require it refuse calls, the others' are not recorded", "security", true, "error", err)
}

// record writes one record. Without an audit there is nothing to say.
func (r *Relay) record(rec *audit.Record) error {
	if r.audit == nil {
		return nil
	}
	err := r.audit.Write(rec)
	if err != nil {
		r.metrics.auditLost.Inc()
	}
	return err
}

// note records what concerns no call. What cannot be written is counted, and the log has it too.
func (r *Relay) note(rec *audit.Record) {
	rec.Config = r.current.Load().version
	_ = r.record(rec)
}

// noteAgent records that an agent was let in, or why it was not, or was cut off.
func (r *Relay) noteAgent(agent, source string, refusal error) {
	rec := &audit.Record{Kind: audit.KindAgent, Peer: agent, Source: source, Decision: audit.Allow, Code: protocol.OK.String()}
	if refusal != nil {
		e := protocol.AsError(refusal)
		rec.Decision, rec.Code, rec.Reason = audit.Deny, e.Code.String(), e.Sentence
	}
	r.note(rec)
}
