//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A metric is what is measured, with its unit.
type metric string

// The metrics.
const (
	throughput metric = "MiB/s"
	cpuPerGiB  metric = "CPU s/GiB"
	callRate   metric = "calls/s"
	p50        metric = "p50 µs"
	p99        metric = "p99 µs"
	cpuPerCall metric = "CPU µs/call"
	gateCPU    metric = "CPU µs of the gate/call"
	beside     metric = "MiB/s beside"
	loaded     metric = "p99 beside/alone"
	idleNear   metric = "KiB/stream near" // relay, entry, server
	idleFar    metric = "KiB/stream far"  // agent, exit, client
	firstCall  metric = "s to the first call"
	connected  metric = "s until all are connected"
	perAgent   metric = "KiB/agent"
	resident   metric = "MiB in all"
	atRest     metric = "% of a core at rest"
)

// order is that of the table's columns.
var order = []metric{throughput, cpuPerGiB, callRate, p50, p99, cpuPerCall, gateCPU, beside, loaded, idleNear, idleFar, firstCall,
	connected, perAgent, resident, atRest}

// A cell is all that was found of one metric of one variant in one case.
type cell struct {
	Section string             `json:"section"`
	Case    string             `json:"case"`
	Variant string             `json:"variant"`
	Metric  metric             `json:"metric"`
	Values  []float64          `json:"values"` // in the order in which they were measured
	Median  float64            `json:"median"`
	Ratio   map[string]float64 `json:"ratio,omitempty"` // of the median to that of each other variant
}

// results are what a run found. They are for the run's own goroutine.
type results struct {
	Machine  string    `json:"machine"`
	Notes    []string  `json:"notes"`
	Failures []string  `json:"failures,omitempty"`
	Cells    []*cell   `json:"cells"` // in the order in which they were first found
	Verdicts []verdict `json:"targets,omitempty"`
}

func newResults() *results { return &results{Machine: machine()} }

// machine tells what the figures were measured on, and nothing of whose it is.
func machine() string {
	kernel := "?"
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
		kernel, _, _ = strings.Cut(kernel, "-") // what follows may name the machine's owner
	}
	return fmt.Sprintf("%d cores, %s, Linux %s %s", runtime.NumCPU(), runtime.Version(), kernel, runtime.GOARCH)
}

// note adds a remark, once.
func (r *results) note(text string) {
	if !slices.Contains(r.Notes, text) {
		r.Notes = append(r.Notes, text)
	}
}

// fail adds a measurement that did not come off.
func (r *results) fail(section, name, variant string, err error) {
	r.Failures = append(r.Failures, fmt.Sprintf("%s: %s: %s: %v", section, name, variant, err))
}

// add keeps what one measurement found.
func (r *results) add(section, name, variant string, found values) {
	for _, m := range order {
		if x, ok := found[m]; ok {
			c := r.cell(section, name, variant, m)
			c.Values = append(c.Values, x)
			c.Median = median(c.Values)
		}
	}
}

func (r *results) cell(section, name, variant string, m metric) *cell {
	if c := r.find(section, name, variant, m); c != nil {
		return c
	}
	c := &cell{Section: section, Case: name, Variant: variant, Metric: m}
	r.Cells = append(r.Cells, c)
	return c
}

func (r *results) find(section, name, variant string, m metric) *cell {
	for _, c := range r.Cells {
		if c.Section == section && c.Case == name && c.Variant == variant && c.Metric == m {
			return c
		}
	}
	return nil
}

func (r *results) median(section, name, variant string, m metric) (float64, bool) {
	if c := r.find(section, name, variant, m); c != nil {
		return c.Median, true
	}
	return 0, false
}

// median is the middle one, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	switch {
	case len(sorted) == 0:
		return 0
	case len(sorted)%2 == 1:
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// compare fills in the ratios and the verdicts.
func (r *results) compare() {
	r.Verdicts = r.judge()
	for _, c := range r.Cells {
		c.Ratio = map[string]float64{}
		for _, other := range r.Cells {
			if other.Section == c.Section && other.Case == c.Case && other.Metric == c.Metric && other != c && other.Median > 0 {
				c.Ratio[other.Variant] = c.Median / other.Median
			}
		}
	}
}

// write writes the figures to a file, and a chart beside it.
func (r *results) write(file string) error {
	r.compare()
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(file, filepath.Ext(file))+".svg", r.chart(), 0o644)
}

// A place is a case of a section, which a table and a panel of the chart show.
type place struct{ section, name string }

func (r *results) places() []place {
	var all []place
	for _, c := range r.Cells {
		if p := (place{c.Section, c.Case}); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// at returns the cells of a place by variant and metric, and both of these in order.
func (r *results) at(p place) (cells map[string]map[metric]*cell, variants []string, metrics []metric) {
	cells = map[string]map[metric]*cell{}
	seen := map[metric]bool{}
	for _, c := range r.Cells {
		if c.Section != p.section || c.Case != p.name {
			continue
		}
		if cells[c.Variant] == nil {
			cells[c.Variant] = map[metric]*cell{}
			variants = append(variants, c.Variant)
		}
		cells[c.Variant][c.Metric] = c
		seen[c.Metric] = true
	}
	metrics = slices.SortedFunc(maps.Keys(seen), func(a, b metric) int { return slices.Index(order, a) - slices.Index(order, b) })
	return cells, variants, metrics
}
