//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/process"
)

// values are what one measurement found, by metric.
type values map[metric]float64

// interleave measures every variant once, then every variant again, so many times, and keeps what was found. A variant
// that failed is measured again in the next round.
func (s *site) interleave(reps int, section, name string, variants []*variant, measure func(*variant) (values, error)) {
	fmt.Fprintf(os.Stderr, "  %s\n", name)
	for range reps {
		for _, v := range variants {
			found, err := measure(v)
			if s.ctx.Err() != nil {
				s.Fatal(context.Cause(s.ctx))
			}
			if err != nil {
				s.failed(section, name, v, err)
				continue
			}
			s.bench.results.add(section, name, v.name, found)
		}
	}
}

// failed keeps what went wrong, and shows what the variant had to say.
func (s *site) failed(section, name string, v *variant, err error) {
	s.bench.results.fail(section, name, v.name, err)
	fmt.Fprintf(os.Stderr, "  %s FAILED: %v\n", v.name, err)
	for _, p := range []*process.Process{v.near, v.far} {
		if p != nil {
			fmt.Fprintln(os.Stderr, p.Log().Tail(1<<10))
		}
	}
}

var result = regexp.MustCompile(`(?m)^result (.*)$`)

// A badEnd is what a load says whose figures are good, but whose streams did not end as they should.
type badEnd struct{ error }

// load runs a load on the cloud's host through a variant to its end. then, if not nil, is called when the result is
// there, with the load's streams still open. A peer is forgiven a bad end, which the results tell of: frp cuts the way
// back when the way there has ended.
func (s *site) load(v *variant, spec load.Spec, then func()) (load.Result, error) {
	spec.Pids = v.pids()
	r, err := s.runLoad(spec, then)
	if bad, ok := errors.AsType[badEnd](err); ok && v.peer {
		s.bench.results.note(v.name + " does not end " + spec.Kind + " streams cleanly")
		fmt.Fprintf(os.Stderr, "  %s: %v\n", v.name, bad)
		err = nil
	}
	return r, err
}

func (s *site) runLoad(spec load.Spec, then func()) (load.Result, error) {
	var r load.Result
	p := s.play(s.cloud, "load", spec)
	defer p.Kill() // where it has not ended by itself
	ctx, cancel := context.WithTimeout(s.ctx, spec.Prepare+spec.Aborted+spec.Warm+spec.Window+time.Minute)
	defer cancel()
	found, err := p.Find(ctx, result)
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, p.Log().Tail(1<<10))
	}
	if then != nil {
		then()
	}
	if err := json.Unmarshal([]byte(found[1]), &r); err != nil {
		return r, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return r, fmt.Errorf("the load's streams did not end: %w", context.Cause(ctx))
	}
	if err := p.Wait(); err != nil {
		return r, badEnd{fmt.Errorf("%w: %s", err, p.Log().Tail(1<<10))}
	}
	return r, nil
}

// cpu is all that the processes used.
func cpu(r load.Result) (seconds float64) {
	for _, c := range r.CPU {
		seconds += c
	}
	return seconds
}

// windows are how long bulk and calls are measured.
func (b *bench) windows() (warm, window time.Duration) {
	if b.quick {
		return 200 * time.Millisecond, 600 * time.Millisecond
	}
	return 500 * time.Millisecond, 2 * time.Second
}

// prepared is how long streams are held first, so that a pool follows.
func (b *bench) prepared() time.Duration {
	if b.quick {
		return 300 * time.Millisecond
	}
	return time.Second
}

// plural is 1 stream, 8 streams.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
