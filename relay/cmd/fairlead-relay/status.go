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
	if b := s.UDP; b != nil {
		fmt.Fprintf(w, "UDP buffers: receive %s, send %s of %s wanted%s\n\n", size(b.Receive), size(b.Send), size(b.Wanted), missing(b.Short))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printLinks(t, s.Links)
	fmt.Fprintln(t, "\nTUNNEL\tPROTOCOL\tHOSTS\tAGENTS\tUP")
	for _, tun := range s.Tunnels {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\n", tun.Name, tun.Protocol, strings.Join(tun.Hosts, " "), tun.Agents, tun.Up)
	}
	return t.Flush()
}

func printLinks(w io.Writer, links []relay.Link) {
	fmt.Fprintln(w, "AGENT\tIDENTITY\tTRANSPORT\tREMOTE\tSTATE\tNEW CALLS\tSINCE\tRTT\tLOSS\tOUT\tIN\tCALLS\tLANES\tCONGESTION\tKEY AGREEMENT\tTUNNELS")
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
		calls := "no: " + l.Why
		if l.Used {
			calls = "yes: " + l.Why
		}
		lanes := "-"
		if l.Transport == "lane" {
			lanes = fmt.Sprintf("%d (%d busy)", l.Lanes, l.Busy)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f%%\t%s/s\t%s/s\t%d\t%s\t%s\t%s\t%s\n", l.Name, l.Agent, l.Transport, l.Remote,
			state, calls, time.Since(l.Since).Round(time.Second), l.RTT.Round(10*time.Microsecond), 100*l.Loss, size(l.Out), size(l.In),
			l.Calls, lanes, l.Congestion, l.Curve, strings.Join(tunnels, ", "))
	}
}

// size writes a number of bytes for people.
func size[N int | uint64](n N) string {
	f, unit := float64(n), 0
	for ; f >= 1024 && unit < 4; unit++ {
		f /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[unit-1])
}

func missing(short int) string {
	if short == 0 {
		return ""
	}
	return ": " + size(short) + " short"
}
