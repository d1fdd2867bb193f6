//go:build linux

package main

import (
	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

// bulk moves bytes as fast as they go.
func (b *bench) bulk(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	variants := s.all()
	counts := []int{1, 8, 64}
	if b.quick {
		counts = []int{1, 8}
	}
	for _, up := range []bool{false, true} {
		for _, n := range counts {
			s.interleave(b.reps, "bulk", way(up)+", "+plural(n, "stream"), variants, func(v *variant) (values, error) {
				warm, window := b.windows()
				return s.move(v, load.Spec{Streams: n, Up: up, Prepare: b.prepared(), Warm: warm, Window: window}, nil)
			})
		}
	}
}

// move runs a bulk load through a variant.
func (s *site) move(v *variant, spec load.Spec, then func()) (values, error) {
	spec.Kind, spec.Address = load.Bulk, v.raw[:1]
	r, err := s.load(v, spec, then)
	if err != nil {
		return nil, err
	}
	found := values{throughput: float64(r.Bytes) / (1 << 20) / r.Seconds}
	if len(r.CPU) > 0 {
		found[cpuPerGiB] = cpu(r) / (float64(r.Bytes) / (1 << 30))
	}
	return found, nil
}

// way names a direction as the caller sees it.
func way(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
