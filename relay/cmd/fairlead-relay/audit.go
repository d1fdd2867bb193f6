package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/relay"
)

type auditCommands struct {
	Verify auditVerifyCommand `cmd:"" help:"Find out whether any line was altered, removed or moved."`
	Show   auditShowCommand   `cmd:"" help:"Print the records of one call."`
}

type auditVerifyCommand struct {
	Bundle map[string]string `placeholder:"TRUST-DOMAIN=FILE" help:"Bundle (PEM) that whoever signed must be of. Without any, whoever signed is taken for good."`
	Files  []string          `arg:"" type:"existingfile" help:"All files of one audit, a relay's or an agent's, in any order."`
}

func (c *auditVerifyCommand) Run(s streams) error {
	r, err := relay.VerifyAudit(c.Files, c.Bundle)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "good: %d lines, numbers %d to %d, from %s to %s\n", r.Lines, r.First.Seq, r.Last.Seq,
		r.First.Time.Format(time.RFC3339), r.Last.Time.Format(time.RFC3339))
	fmt.Fprintf(s.out, "checkpoints: %d, signed by %v\n", r.Checkpoints, r.Signers)
	if r.Unsigned > 0 {
		fmt.Fprintf(s.out, "the last %d lines have no checkpoint behind them: that they are chained proves nothing against whoever could write the file\n", r.Unsigned)
	}
	return nil
}

type auditShowCommand struct {
	Call  string   `required:"" help:"The call's id, as in the answer's Fairlead-Call-Id." placeholder:"ID"`
	Files []string `arg:"" type:"existingfile" help:"Files of an audit."`
}

func (c *auditShowCommand) Run(s streams) error {
	found, err := relay.FindAudit(c.Files, c.Call)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no record of call %s in these files", c.Call)
	}
	e := json.NewEncoder(s.out)
	for _, l := range found {
		if err := e.Encode(l); err != nil {
			return err
		}
	}
	return nil
}
