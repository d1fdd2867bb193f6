//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
)

// A target is what a median, or its ratio to another's, must reach. Zero bounds are none.
type target struct {
	place
	variant     string
	metric      metric
	than        string // the variant whose median of the same case and metric is 1; empty: the median itself is bounded
	thanCase    string // another case to take than's median from; empty: the same
	most, least float64
}

// targets are those of the card that asked for this benchmark.
func targets() []target {
	var all []target
	add := func(section, name, variant string, m metric, than string, most, least float64) {
		all = append(all, target{place: place{section, name}, variant: variant, metric: m, than: than, most: most, least: least})
	}
	for _, name := range []string{"down, 1 stream", "down, 8 streams", "up, 1 stream", "up, 8 streams"} {
		add("bulk", name, overLanes, cpuPerGiB, "pair", 0.80, 0)
		add("bulk", name, overYamux, cpuPerGiB, "pair", 1.3, 0)
		add("bulk", name, overQUIC, cpuPerGiB, "frp quic", 1.0, 0)
		add("bulk", name, overLanes, throughput, "pair", 0, 1.2)
		add("bulk", name, overLanes, throughput, "frp yamux", 0, 1.9)
		add("bulk", name, overLanes, throughput, "frp no mux", 0, 1.2)
	}
	add("rr", "1 connection", overLanes, p50, "pair", 1.05, 0)
	add("rr", "1 connection", overLanes, cpuPerCall, "pair", 1.0, 0)
	for _, peer := range []string{"frp yamux", "frp no mux", "frp quic", "chisel"} {
		add("conn", "8 at a time", overLanes, callRate, peer, 0, 1.6)
	}
	add("conn", "8 at a time", overLanes, callRate, "pair", 0, 4.5)
	add("http", webCase, overLanes, callRate, "pair", 0, 0.7)
	add("http", "the price of the gate", overAudit, gateCPU, "", 25, 0)
	for _, loss := range losses {
		add("longlink", longCase(loss, 8), overLanes, throughput, "direct", 0, 0.95)
	}
	add("longlink", longCase(0, 1), overLanes, throughput, "direct", 0, 0.95)
	all = append(all, target{place: place{"longlink", longCase(0.01, 8)}, variant: overBBR, metric: throughput, than: "direct",
		thanCase: longCase(0, 8), least: 0.9})
	add("idle", idleCase, overYamux, idleNear, "", 30, 0)
	add("idle", idleCase, overYamux, idleFar, "", 30, 0)
	add("behind", "beside an upload", overLanes, loaded, "", 3, 0)
	add("behind", "long link, beside an upload", overLanes, loaded, "", 3, 0)
	for _, name := range []string{"down, 8 streams", "up, 8 streams"} {
		add("aborted", name, overLanes, throughput, "direct", 0, 0.9)
		add("aborted", name, overYamux, throughput, "direct", 0, 0.5)
	}
	for _, variant := range []string{overLanes, overYamux, overQUIC} {
		add("restart", restartCase, variant, firstCall, "", 0.15, 0)
		add("silence", silenceCase, variant, firstCall, "", 1, 0)
	}
	return all
}

// A verdict is a target that the run can judge.
type verdict struct {
	Target string  `json:"target"`
	Found  float64 `json:"found"`
	Met    bool    `json:"met"`
}

// judge returns a verdict on every target whose medians are there.
func (r *results) judge() []verdict {
	var all []verdict
	for _, t := range targets() {
		if found, ok := r.value(t); ok {
			all = append(all, verdict{Target: t.String(), Found: found,
				Met: (t.most == 0 || found <= t.most) && (t.least == 0 || found >= t.least)})
		}
	}
	return all
}

func (r *results) value(t target) (float64, bool) {
	found, ok := r.median(t.section, t.name, t.variant, t.metric)
	if !ok || t.than == "" {
		return found, ok
	}
	where := t.name
	if t.thanCase != "" {
		where = t.thanCase
	}
	one, ok := r.median(t.section, where, t.than, t.metric)
	return found / math.Max(one, math.SmallestNonzeroFloat64), ok
}

func (t target) String() string {
	s := fmt.Sprintf("%s: %s: %s: %s", t.section, t.name, t.variant, t.metric)
	switch {
	case t.most > 0:
		s += fmt.Sprintf(" ≤ %g", t.most)
	default:
		s += fmt.Sprintf(" ≥ %g", t.least)
	}
	if t.than != "" {
		s += " × " + t.than
	}
	if t.thanCase != "" {
		s += " at " + t.thanCase
	}
	return s
}

func printVerdicts(out io.Writer, verdicts []verdict) {
	if len(verdicts) == 0 {
		return
	}
	fmt.Fprintln(out, "\ntargets")
	for _, v := range verdicts {
		mark := "met   "
		if !v.Met {
			mark = "MISSED"
		}
		fmt.Fprintf(out, "  %s  %s: %s\n", mark, v.Target, number(v.Found))
	}
}
