package agent

import (
	"crypto/tls"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
)

// openAudit opens the file that decisions are recorded in, where there is one.
func (a *Agent) openAudit(conf config.Audit) error {
	if conf.File == "" {
		return nil
	}
	l, err := audit.Open(audit.Config{File: conf.File, Signer: signer{a}, Rotate: conf.Rotate, Keep: conf.Keep, State: a.auditState})
	if err != nil {
		return err
	}
	a.audit = l
	return nil
}

// signer is who the agent is now: a reload may bring another identity.
type signer struct{ *Agent }

func (s signer) Certificate() (*tls.Certificate, error) { return s.current.Load().source.Certificate() }

func (s signer) ID() certs.ID { return s.current.Load().source.ID() }

func (a *Agent) closeAudit() error {
	if a.audit == nil {
		return nil
	}
	return a.audit.Close()
}

// auditState says when records are lost, and when they are kept again.
func (a *Agent) auditState(err error) {
	if err == nil {
		a.metrics.auditFailing.Set(0)
		a.log.Info("the audit is written again")
		return
	}
	a.metrics.auditFailing.Set(1)
	a.log.Error("the audit cannot be written: tunnels that require it refuse calls, the others' are not recorded", "security", true, "error", err)
}

// record writes one record.
func (a *Agent) record(r *audit.Record) error {
	err := a.audit.Write(r)
	if err != nil {
		a.metrics.auditLost.Inc()
	}
	return err
}
