package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/relay"
)

type explainCommand struct {
	Config  string `short:"c" help:"Judge by this configuration file, offline; left out: the running relay is asked." placeholder:"FILE"`
	Control string `help:"Control socket of the running relay; default: the one in /etc/fairlead/relay.yaml." placeholder:"SOCKET"`

	Tunnel    string            `help:"The tunnel's name." xor:"place"`
	Host      string            `help:"The host that is called, in place of the tunnel." xor:"place"`
	Method    string            `default:"GET" help:"The request's method."`
	Path      string            `default:"/" help:"The request's path, with a query or without."`
	Caller    string            `help:"The caller's SPIFFE ID, which is taken for proved; left out: no SVID." placeholder:"ID"`
	App       string            `help:"A client id, whose secret is taken for shown." placeholder:"ID"`
	User      string            `help:"A user, whose password is taken for shown."`
	Group     []string          `help:"A group that the directory would say that the user is in."`
	TokenFile string            `type:"existingfile" help:"File with the token."`
	Source    string            `help:"The caller's address." placeholder:"IP"`
	Header    map[string]string `help:"A header of the request." placeholder:"NAME=VALUE"`

	Call   string   `help:"Explain this call of the past, by the audits named." placeholder:"ID" xor:"past"`
	Replay bool     `help:"List the calls of the audits named that the configuration of -c decides otherwise than they were." xor:"past"`
	JSON   bool     `help:"Print JSON."`
	Audits []string `arg:"" optional:"" type:"existingfile" help:"Files of a relay's audit."`
}

var errDenied = errors.New("the call is denied")

func (c *explainCommand) Run(ctx context.Context, s streams) error {
	switch {
	case c.Call != "":
		return c.explainPast(s)
	case c.Replay:
		return c.replay(ctx, s)
	case c.Tunnel == "" && c.Host == "":
		return errors.New("expected one of --tunnel, --host, --call and --replay")
	}
	q := &relay.Question{Tunnel: c.Tunnel, Host: c.Host, Method: c.Method, Path: c.Path, Caller: c.Caller, App: c.App, User: c.User, Groups: c.Group, Source: c.Source, Header: c.Header}
	if c.TokenFile != "" {
		b, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return err
		}
		q.Token = strings.TrimSpace(string(b))
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var e *relay.Explanation
	var err error
	if c.Config != "" {
		e, err = relay.ExplainOffline(ctx, c.Config, q)
	} else {
		e, err = relay.RequestExplanation(ctx, "/etc/fairlead/relay.yaml", c.Control, q)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(s, e)
	} else {
		printExplanation(s.out, e)
	}
	if err == nil && !e.Allowed {
		err = errDenied
	}
	return err
}

func printExplanation(w io.Writer, e *relay.Explanation) {
	for _, step := range e.Steps {
		mark := "pass"
		if !step.Passed {
			mark = "DENY"
		}
		fmt.Fprintf(w, "%s  %-12s  %s\n", mark, step.Rule, step.Detail)
	}
	if e.Allowed {
		fmt.Fprintf(w, "allowed by configuration %s; then come limits, and the agent decides once more by its own file\n", e.Config)
		return
	}
	fmt.Fprintf(w, "%s by configuration %s; the caller is told: %s\n", e.Code, e.Config, e.Answer)
}

// explainPast prints what was decided about a call, by which rule, and how it ended.
func (c *explainCommand) explainPast(s streams) error {
	found, err := relay.FindAudit(c.Audits, c.Call)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no record of call %s in these files", c.Call)
	}
	for _, l := range found {
		if l.Decision == "" {
			fmt.Fprintf(s.out, "%s  ended %s, status %d, %d bytes up, %d down, after %d ms\n", l.Time.Format(time.RFC3339), l.Code, l.Status, l.Up, l.Down, l.Duration)
			continue
		}
		fmt.Fprintf(s.out, "%s  tunnel %s  %s %s%s  by %s%s%s\n", l.Time.Format(time.RFC3339), or(l.Tunnel, "(none)"), or(l.Method, l.Network), l.Host, l.Path,
			or(l.Caller, "nobody"), prefixed(" for ", l.User), prefixed(" as app ", l.App))
		for _, step := range relay.PastSteps(l) {
			mark := "pass"
			if !step.Passed {
				mark = "DENY"
			}
			fmt.Fprintf(s.out, "%s  %-12s  %s\n", mark, step.Rule, step.Detail)
		}
	}
	return nil
}

func (c *explainCommand) replay(ctx context.Context, s streams) error {
	if c.Config == "" || len(c.Audits) == 0 {
		return errors.New("expected -c and the files of an audit beside --replay")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := relay.ReplayAudit(ctx, c.Config, c.Audits)
	if err != nil {
		return err
	}
	for _, change := range r.Changes {
		l := change.Line
		fmt.Fprintf(s.out, "%s  call %s  tunnel %s  %s %s%s  by %s%s: was %s (%s), now %s (%s)%s\n", l.Time.Format(time.RFC3339), l.CallID, or(l.Tunnel, "(none)"),
			or(l.Method, l.Network), l.Host, l.Path, or(l.Caller, "nobody"), prefixed(" for ", l.User), l.Code, l.Rule, change.Code, change.Rule, prefixed("; unsure: ", change.Unsure))
	}
	fmt.Fprintf(s.out, "%d calls, %d decided otherwise; of %d the audit keeps too little to be sure\n", r.Calls, len(r.Changes), r.Unsure)
	return nil
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
