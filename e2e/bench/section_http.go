//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/process"
)

const (
	webStreams = 32
	webCase    = "32 connections, GET 1 KiB"
	webHost    = "web.dc1.example"
)

// http measures requests of 1 KiB on kept connections: with SVID, token, scopes and expression, with a quota and an audit
// beside these, and with all left out that can be.
func (b *bench) http(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	variants := append([]*variant{s.direct(), s.pair()}, s.fairleads(1)...)
	lanes := variants[2]
	open := *lanes
	open.name, open.web = lanes.name+", no gate", lanes.open
	get := s.goClient
	if path, err := exec.LookPath("wrk"); err == nil {
		b.results.note("the HTTP client is wrk")
		get = s.wrk(path)
	} else {
		b.results.note("the HTTP client is Go's net/http, as wrk is not installed (make bench-deps)")
	}
	whole := s.fairlead(fairlead{name: overAudit, transport: "tcp", audited: true, doors: 1})
	s.interleave(b.reps, "http", webCase, slices.Insert(variants, 3, &open, whole), get) // beside those that they are compared with
	b.price(lanes.name, open.name)
	b.price(whole.name, open.name)
}

// price works out what the gate costs a call: the difference in each round, as the rounds differ more.
func (b *bench) price(with, without string) {
	all, rest := b.results.find("http", webCase, with, cpuPerCall), b.results.find("http", webCase, without, cpuPerCall)
	if all == nil || rest == nil || len(all.Values) != len(rest.Values) {
		return // a measurement failed, and the results say so
	}
	for i := range all.Values {
		b.results.add("http", "the price of the gate", with, values{gateCPU: all.Values[i] - rest.Values[i]})
	}
}

func (s *site) goClient(v *variant) (values, error) {
	warm, window := s.bench.windows()
	r, err := s.load(v, load.Spec{Kind: load.HTTP, Address: []string{v.web}, Streams: webStreams, Warm: warm, Window: window,
		Header: "Bearer " + s.token}, nil)
	if err != nil {
		return nil, err
	}
	return callValues(r), nil
}

// wrk returns a measurement with that program. The token is in its script, and on no command line.
func (s *site) wrk(program string) func(*variant) (values, error) {
	script := s.write("wrk.lua", fmt.Sprintf("wrk.headers[\"Authorization\"] = \"Bearer %s\"\n", s.token))
	return func(v *variant) (values, error) {
		_, window := s.bench.windows()
		return s.wrkOnce(program, script, v, window)
	}
}

var (
	wrkTotal  = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
	wrkRate   = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)`)
	wrkFailed = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses: .*|Socket errors: .*)$`)
)

// wrkOnce runs wrk for so many whole seconds, one at least.
func (s *site) wrkOnce(program, script string, v *variant, window time.Duration) (values, error) {
	before, err := used(v)
	if err != nil {
		return nil, err
	}
	seconds := max(1, int(window.Seconds()))
	text := process.Run(s.stage, s.cloud.Command(s.ctx, program, "-t", "2", "-c", strconv.Itoa(webStreams), "-d", fmt.Sprintf("%ds", seconds),
		"--latency", "-s", script, "http://"+v.web+"/1k"))
	after, err := used(v)
	if err != nil {
		return nil, err
	}
	if wrong := wrkFailed.FindString(text); wrong != "" {
		return nil, fmt.Errorf("wrk: %s", wrong)
	}
	var failed error
	number := func(re *regexp.Regexp) float64 {
		found := re.FindStringSubmatch(text)
		if found == nil {
			failed = fmt.Errorf("wrk did not say %s:\n%s", re, text)
			return 0
		}
		x, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			failed = err
		}
		return x
	}
	found := values{callRate: number(wrkRate), p50: percentile("50%", text), p99: percentile("99%", text)}
	if v.near != nil {
		found[cpuPerCall] = (after - before) / number(wrkTotal) * 1e6
	}
	return found, failed
}

// percentile reads one of wrk's latencies, in µs; 0 where there is none.
func percentile(which, text string) float64 {
	found := regexp.MustCompile(`(?m)^\s*` + which + `\s+(\S+)\s*$`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	d, err := time.ParseDuration(found[1])
	if err != nil {
		return 0
	}
	return float64(d.Nanoseconds()) / 1e3
}

// used is the CPU time of a variant's processes.
func used(v *variant) (seconds float64, err error) {
	for _, pid := range v.pids() {
		c, err := load.CPU(pid)
		if err != nil {
			return 0, err
		}
		seconds += c
	}
	return seconds, nil
}
