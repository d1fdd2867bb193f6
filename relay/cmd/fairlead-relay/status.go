package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/relay"
)

// printStatus prints for people what --json prints for programs.
func printStatus(w io.Writer, s *relay.Status) error {
	state := "serving"
	if s.Draining {
		state = "draining"
	}
	fmt.Fprintf(w, "%s  %s  %s on %s  version %s\nSVID valid until %s (%s); connections not proved: %d\n\n", s.Name, s.SPIFFEID, state,
		s.Listen, s.Version, s.NotAfter.Format(time.RFC3339), time.Until(s.NotAfter).Round(time.Minute), s.Unproved)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printLinks(t, s.Links)
	fmt.Fprintln(t, "\nTUNNEL\tPROTOCOL\tHOSTS\tLINKS\tUP")
	for _, tun := range s.Tunnels {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\n", tun.Name, tun.Protocol, strings.Join(tun.Hosts, " "), tun.Links, tun.Up)
	}
	return t.Flush()
}

func printLinks(w io.Writer, links []relay.Link) {
	fmt.Fprintln(w, "AGENT\tIDENTITY\tTRANSPORT\tREMOTE\tSTATE\tSINCE\tRTT\tCALLS\tTUNNELS")
	for _, l := range links {
		state := "up"
		switch {
		case l.Suspect:
			state = "suspect"
		case l.Duplicate:
			state = "up, duplicate agent"
		}
		var tunnels []string
		for _, t := range l.Tunnels {
			word := string(t.Name)
			switch {
			case !t.Accepted:
				word += " (not owned)"
			case !t.Up:
				word += " (down: " + t.Sentence + ")"
			}
			tunnels = append(tunnels, word)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", l.Name, l.Agent, l.Transport, l.Remote, state,
			time.Since(l.Since).Round(time.Second), l.RTT.Round(10*time.Microsecond), l.Calls, strings.Join(tunnels, ", "))
	}
}
