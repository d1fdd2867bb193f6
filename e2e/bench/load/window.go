//go:build linux

package load

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// A meter measures a window.
type meter struct {
	spec    Spec
	total   *atomic.Int64 // what is measured
	began   time.Time
	counted int64
	cpu     []float64
}

// newMeter begins a window at once, which run moves where there is a time to warm up.
func newMeter(s Spec, total *atomic.Int64) (*meter, error) {
	m := &meter{spec: s, total: total}
	return m, m.begin()
}

func (m *meter) begin() (err error) {
	m.cpu, err = all(m.spec.Pids)
	m.began, m.counted = time.Now(), m.total.Load()
	return err
}

// run lets the time to warm up pass, then the window, and returns by how much the total grew in it and what CPU time
// went. failed ends it early.
func (m *meter) run(ctx context.Context, failed <-chan error) (r Result, grown int64, err error) {
	if m.spec.Warm > 0 {
		if err := pause(ctx, m.spec.Warm, failed); err != nil {
			return r, 0, err
		}
		if err := m.begin(); err != nil {
			return r, 0, err
		}
	}
	if err := pause(ctx, m.spec.Window-time.Since(m.began), failed); err != nil {
		return r, 0, err
	}
	grown = m.total.Load() - m.counted
	r.Seconds = time.Since(m.began).Seconds()
	if r.CPU, err = all(m.spec.Pids); err != nil {
		return r, 0, err
	}
	for i := range r.CPU {
		r.CPU[i] -= m.cpu[i]
	}
	return r, grown, nil
}

func pause(ctx context.Context, d time.Duration, failed <-chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// latencies are those of one stream, in order of time; its stream alone writes them until it has ended.
type latencies struct {
	took []time.Duration
	at   []time.Time
}

func (l *latencies) add(began, now time.Time) {
	l.took, l.at = append(l.took, now.Sub(began)), append(l.at, now)
}

// percentiles sets r's from the calls of all streams that ended in the window.
func (r *Result) percentiles(streams []latencies, from, to time.Time) error {
	var took []time.Duration
	for _, l := range streams {
		for i, at := range l.at {
			if at.After(from) && at.Before(to) {
				took = append(took, l.took[i])
			}
		}
	}
	if len(took) == 0 {
		return errors.New("no call ended within the window")
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))].Nanoseconds()) / 1e3
	}
	r.P50, r.P99 = at(0.50), at(0.99)
	return nil
}
