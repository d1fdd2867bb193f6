//go:build linux

package main

import (
	"time"

	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

// behind measures small calls on one stream while another of the same agent moves as many bytes as it can: on a fast
// path, where they compete for the cores, and on the long link, where they compete for the line.
func (b *bench) behind(on *stage) {
	fast := b.newSite(on, lab.Options{Path: lab.Fast})
	warm, window := b.windows()
	b.besides("", fast.all(), load.Spec{Prepare: b.prepared(), Warm: warm, Window: window})
	long := b.newSite(on, lab.Options{Path: lab.WAN, Conditions: far})
	b.besides("long link, ", append([]*variant{long.direct()}, long.fairleads(1)...),
		load.Spec{Prepare: linkPrepared, Warm: 1500 * time.Millisecond, Window: 2500 * time.Millisecond})
}

// besides measures without another stream and with one, each way, and works out how much worse the slowest calls are.
func (b *bench) besides(where string, variants []*variant, spec load.Spec) {
	s := variants[0].site
	alone := where + "alone"
	for _, c := range []struct{ name, beside string }{{alone, ""}, {where + "beside an upload", "up"}, {where + "beside a download", "down"}} {
		spec := spec
		spec.Kind, spec.Streams, spec.Behind = load.RR, 1, c.beside
		s.interleave(b.reps, "behind", c.name, variants, func(v *variant) (values, error) { return s.calls(v, spec) })
		for _, v := range variants {
			least, _ := b.results.median("behind", alone, v.name, p99)
			most, ok := b.results.median("behind", c.name, v.name, p99)
			if ok && least > 0 && c.name != alone {
				b.results.add("behind", c.name, v.name, values{loaded: most / least})
			}
		}
	}
}
