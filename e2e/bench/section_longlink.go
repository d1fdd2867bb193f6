//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

// far is the long link: 50 ms round trip, 1 Gbit/s.
var far = lab.Conditions{Delay: 25 * time.Millisecond, Rate: 1_000_000_000}

// losses are the shares of packets that get lost.
var losses = []float64{0, 0.001, 0.01}

func longCase(loss float64, streams int) string {
	return fmt.Sprintf("loss %g %%, %s", loss*100, plural(streams, "stream"))
}

// longlink moves bytes over a link that is long and loses packets, from the backend to the caller. All sockets use
// cubic, but for the variants that say otherwise.
func (b *bench) longlink(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.WAN, Conditions: far})
	variants := append([]*variant{s.direct()}, s.fairleads(1)...)
	if s.knows("agent", "congestion: auto") {
		variants = append(variants, s.fairlead(fairlead{name: overLanes + ", default", transport: "tcp", asks: true, doors: 1}))
	}
	variants = append(variants, s.peers()...)
	variants = append(variants, b.withBBR(on)...)
	// First, before losses have taught long-lived connections to be slow.
	b.overLink(longCase(0, 8)+" after a rest", 0, variants, load.Spec{Streams: 8})
	for _, loss := range losses {
		for _, n := range []int{8, 1} {
			b.overLink(longCase(loss, n), loss, variants, load.Spec{Streams: n, Prepare: linkPrepared})
		}
	}
}

// linkPrepared is how long streams are held first on the long link, where a handshake takes three round trips.
const linkPrepared = 1500 * time.Millisecond

// overLink measures a case of longlink. Only the load itself meets the loss.
func (b *bench) overLink(name string, loss float64, variants []*variant, spec load.Spec) {
	spec.Warm, spec.Window = 2*time.Second, 4*time.Second
	if b.quick {
		spec.Warm, spec.Window = time.Second, 2*time.Second
	}
	variants[0].site.interleave(b.reps, "longlink", name, variants, func(v *variant) (values, error) {
		path := v.site.lab.Path()
		lossy := far
		lossy.Loss = loss
		path.Set(lossy)
		whole := func() { path.Set(far) } // so that what is under way arrives, and the streams end
		defer whole()
		return v.site.move(v, spec, whole)
	})
}

// withBBR is the same link once more, between hosts that use BBR.
func (b *bench) withBBR(on *stage) []*variant {
	s := b.newSite(on, lab.Options{Path: lab.WAN, Conditions: far, Congestion: "bbr"})
	direct := s.direct()
	direct.name += ", BBR"
	return []*variant{direct, s.fairlead(fairlead{name: overBBR, transport: "tcp", asks: true, doors: 1})}
}

// aborted moves bytes on 8 streams that begin when another, at its fastest, is cut off.
func (b *bench) aborted(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.WAN, Conditions: far})
	variants := append([]*variant{s.direct()}, s.fairleads(1)...)
	variants = append(variants, s.peers()...)
	for _, up := range []bool{false, true} {
		s.interleave(b.reps, "aborted", way(up)+", 8 streams", variants, func(v *variant) (values, error) {
			return s.move(v, load.Spec{Streams: 8, Up: up, Prepare: linkPrepared, Aborted: 3 * time.Second, Window: 3 * time.Second}, nil)
		})
	}
}
