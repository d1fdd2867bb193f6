package registry

import (
	"context"
	"maps"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// Run measures the links until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	tick := time.NewTicker(link.MeterEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, l := range r.all() {
				r.add(l.Transport, l.meter.Tick(l.Stats(), now))
			}
		case <-ctx.Done():
			return
		}
	}
}

// Totals are the counters of all links there were, by transport. They never fall.
func (r *Registry) Totals() map[string]link.Stats {
	for _, l := range r.all() {
		r.account(l, l.Stats())
	}
	r.measured.Lock()
	defer r.measured.Unlock()
	return maps.Clone(r.totals)
}

// account takes in what a link has carried since the last time.
func (r *Registry) account(l *Link, s link.Stats) { r.add(l.Transport, l.meter.Read(s)) }

func (r *Registry) add(transport string, more link.Stats) {
	r.measured.Lock()
	defer r.measured.Unlock()
	r.totals[transport] = r.totals[transport].Plus(more)
}

func (r *Registry) all() []*Link {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.links()
}
