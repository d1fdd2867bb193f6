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
	printLinks(t, s.Links)
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
	if err := t.Flush(); err != nil {
		return err
	}
	for _, l := range s.Links {
		if b := l.UDP; b != nil {
			fmt.Fprintf(w, "\nUDP buffers to %s: receive %s, send %s of %s wanted%s\n", l.Address, size(b.Receive), size(b.Send), size(b.Wanted),
				missing(b.Short))
		}
	}
	return nil
}

func printLinks(w io.Writer, links []agent.Link) {
	fmt.Fprintln(w, "RELAY\tADDRESS\tTRANSPORT\tSTATE\tNEW CALLS\tSINCE\tRTT\tLOSS\tOUT\tIN\tSTREAMS\tLANES\tCONGESTION\tKEY AGREEMENT\tLAST ERROR")
	for _, l := range links {
		calls := "no: " + l.Why
		if l.Used {
			calls = "yes: " + l.Why
		}
		lanes := "-"
		if l.Transport == "lane" {
			lanes = fmt.Sprintf("%d (%d busy)", l.Lanes, l.Busy)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f%%\t%s/s\t%s/s\t%d\t%s\t%s\t%s\t%s\n", l.Relay, l.Address, l.Transport, linkState(l),
			calls, time.Since(l.Since).Round(time.Second), l.RTT.Round(10*time.Microsecond), 100*l.Loss, size(l.Out), size(l.In),
			l.Streams, lanes, l.Congestion, l.Curve, l.LastError)
	}
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
