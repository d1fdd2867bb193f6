package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/agent"
)

// printStatus prints for people what --json prints for programs.
func printStatus(w io.Writer, s *agent.Status) error {
	state := "serving"
	if s.Draining {
		state = "draining"
	}
	fmt.Fprintf(w, "%s  %s  %s  version %s\nSVID valid until %s (%s)\n\n", s.Name, s.SPIFFEID, state, s.Version,
		s.NotAfter.Format(time.RFC3339), time.Until(s.NotAfter).Round(time.Minute))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RELAY\tADDRESS\tTRANSPORT\tSTATE\tSINCE\tRTT\tSTREAMS\tRECEIVED\tKEY AGREEMENT\tLAST ERROR")
	for _, l := range s.Links {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.Relay, l.Address, l.Transport, linkState(l),
			time.Since(l.Since).Round(time.Second), l.RTT.Round(10*time.Microsecond), l.Streams, l.Received, l.Curve, l.LastError)
	}
	fmt.Fprintln(t, "\nTUNNEL\tBACKEND\tSTATE\tREFUSED BY")
	for _, tun := range s.Tunnels {
		state := "up"
		if !tun.Up {
			state = "down: " + tun.Reason
		}
		var refused []string
		for _, l := range s.Links {
			if code, ok := l.Refused[tun.Name]; ok {
				refused = append(refused, fmt.Sprintf("%s (%s)", l.Relay, code))
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", tun.Name, tun.Backend, state, strings.Join(refused, " "))
	}
	return t.Flush()
}

func linkState(l agent.Link) string {
	switch {
	case !l.Up:
		return "down"
	case l.Suspect:
		return "suspect"
	}
	return "up"
}
