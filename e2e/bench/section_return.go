//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

const (
	restartCase = "killed and started again"
	silenceCase = "20 s"
)

// restart kills what stands beside the caller, starts it again at once, and waits for the first call that works.
func (b *bench) restart(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	var variants []*variant
	for _, v := range append(s.fairleads(1), s.peers()...) {
		if v.restart != nil {
			variants = append(variants, v)
		}
	}
	s.interleave(b.reps, "restart", restartCase, variants, func(v *variant) (values, error) {
		if err := s.rest(3 * time.Second); err != nil {
			return nil, err
		}
		began := time.Now()
		v.restart()
		at, err := s.firstCall(v, 10*time.Millisecond)
		return values{firstCall: at.Sub(began).Seconds()}, err
	})
}

// silence lets nothing pass for 20 s, in which nobody calls, and waits for the first call that works after it. All
// variants go through the same silence.
func (b *bench) silence(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	variants := s.all()
	for range b.reps {
		if err := s.rest(3 * time.Second); err != nil {
			s.Fatal(err)
		}
		s.lab.Path().Cut(lab.Silent)
		err := s.rest(20 * time.Second)
		s.lab.Path().Cut(lab.Whole)
		if err != nil {
			s.Fatal(err)
		}
		s.firstCalls(variants)
	}
}

// firstCalls waits for every variant's first good call from now on.
func (s *site) firstCalls(variants []*variant) {
	began := time.Now()
	found := make([]time.Time, len(variants))
	errs := make([]error, len(variants))
	var running sync.WaitGroup
	for i, v := range variants {
		running.Go(func() { found[i], errs[i] = s.firstCall(v, 50*time.Millisecond) })
	}
	running.Wait()
	const section, name = "silence", silenceCase
	for i, v := range variants {
		if errs[i] != nil {
			s.failed(section, name, v, errs[i])
			continue
		}
		s.bench.results.add(section, name, v.name, values{firstCall: found[i].Sub(began).Seconds()})
	}
}

// firstCall begins a call every so often, whatever became of those before, and returns when the first of them was
// answered.
func (s *site) firstCall(v *variant, every time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	answered := make(chan time.Time, 1)
	for {
		running.Go(func() {
			if err := call(ctx, s.cloud, v.raw[0]); err != nil {
				return // another is on its way
			}
			select {
			case answered <- time.Now():
			default: // this was not the first
			}
		})
		select {
		case at := <-answered:
			return at, nil
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no call was answered within a minute: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// rest waits.
func (s *site) rest(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.ctx.Done():
		return errors.New("interrupted")
	}
}
