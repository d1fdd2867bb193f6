//go:build linux

package main

import (
	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

// rr measures small calls on open connections.
func (b *bench) rr(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	variants := s.all()
	for _, n := range []int{1, 32} {
		s.interleave(b.reps, "rr", plural(n, "connection"), variants, func(v *variant) (values, error) {
			warm, window := b.windows()
			return s.calls(v, load.Spec{Kind: load.RR, Streams: n, Prepare: b.prepared(), Warm: warm, Window: window})
		})
	}
}

// calls runs a load of calls through a variant.
func (s *site) calls(v *variant, spec load.Spec) (values, error) {
	spec.Address = v.raw[:1]
	r, err := s.load(v, spec, nil)
	if err != nil {
		return nil, err
	}
	return callValues(r), nil
}

func callValues(r load.Result) values {
	found := values{callRate: float64(r.Calls) / r.Seconds, p50: r.P50, p99: r.P99}
	if r.Beside > 0 {
		found[beside] = float64(r.Beside) / (1 << 20) / r.Seconds
	}
	if len(r.CPU) > 0 {
		found[cpuPerCall] = cpu(r) / float64(r.Calls) * 1e6
	}
	return found
}
