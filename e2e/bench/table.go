//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// print writes every case as a table: the medians, and behind each its ratio to the baselines.
func (r *results) print(out io.Writer) {
	r.compare()
	fmt.Fprintf(out, "\n%s\n", r.Machine)
	for _, n := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	for _, p := range r.places() {
		r.printPlace(out, p)
	}
	printVerdicts(out, r.Verdicts)
	for _, f := range r.Failures {
		fmt.Fprintf(out, "\nFAILED: %s\n", f)
	}
}

func (r *results) printPlace(out io.Writer, p place) {
	cells, variants, metrics := r.at(p)
	fmt.Fprintf(out, "\n%s: %s\n", p.section, p.name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	against := map[metric][]string{}
	fmt.Fprint(w, " \t")
	for _, m := range metrics {
		fmt.Fprintf(w, "%s\t", m)
		for _, b := range baselines {
			if cells[b][m] != nil {
				against[m] = append(against[m], b)
				fmt.Fprintf(w, "×%s\t", b)
			}
		}
	}
	fmt.Fprintln(w)
	for _, v := range variants {
		fmt.Fprintf(w, "%s\t", v)
		for _, m := range metrics {
			fmt.Fprintf(w, "%s\t", show(cells[v][m]))
			for _, b := range against[m] {
				fmt.Fprintf(w, "%s\t", ratio(cells[v][m], b))
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // the terminal's own fault
}

func show(c *cell) string {
	if c == nil {
		return "–"
	}
	return number(c.Median)
}

func ratio(c *cell, to string) string {
	if c == nil || c.Ratio[to] == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", c.Ratio[to])
}

// number shows three digits or a few more.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
