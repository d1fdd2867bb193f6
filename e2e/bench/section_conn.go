//go:build linux

package main

import (
	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

// conn measures connections that carry a byte each way.
func (b *bench) conn(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	s.interleave(b.reps, "conn", "8 at a time", s.all(), func(v *variant) (values, error) {
		warm, window := b.windows()
		return s.calls(v, load.Spec{Kind: load.Conn, Streams: 8, Warm: warm, Window: window})
	})
}
