//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// messageSize is that of rr's requests and answers.
const messageSize = 1 << 10

// rr sends and waits on s.Streams open streams.
func rr(ctx context.Context, s Spec, report func(Result)) error {
	streams := make([]stream, s.Streams)
	for i := range streams {
		var err error
		if streams[i], err = open(ctx, s.address(i), echo); err != nil {
			return err
		}
		defer streams[i].Close()
	}
	if s.Behind != "" {
		m := newMovers(1, s.Behind == "up")
		defer m.cut()
		if err := m.start(ctx, s.Address); err != nil {
			return fmt.Errorf("the bulk stream beside: %w", err)
		}
		report = m.beside(report)
	}
	calls := make([]func() error, s.Streams)
	for i, c := range streams {
		message := make([]byte, messageSize)
		calls[i] = func() error {
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			if _, err := c.Write(message); err != nil {
				return err
			}
			_, err := io.ReadFull(c, message)
			return err
		}
	}
	if err := repeat(ctx, s, calls, report); err != nil {
		return err
	}
	for _, c := range streams {
		if err := finish(c); err != nil {
			return err
		}
	}
	return nil
}

// finish ends a stream and expects the backend's end.
func finish(c stream) error {
	if err := errors.Join(c.SetDeadline(time.Now().Add(patience)), c.CloseWrite()); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("expected the backend's end, got %d bytes and %w", n, err)
	}
	return nil
}

// beside adds to a report how much moved, at the pace since now.
func (m *movers) beside(report func(Result)) func(Result) {
	began, counted := time.Now(), m.total.Load()
	return func(r Result) {
		pace := float64(m.total.Load()-counted) / time.Since(began).Seconds()
		r.Beside = int64(pace * r.Seconds)
		report(r)
	}
}

// conns opens and closes, s.Streams at a time.
func conns(ctx context.Context, s Spec, report func(Result)) error {
	calls := make([]func() error, s.Streams)
	for i := range calls {
		calls[i] = func() error { return Call(ctx, s.address(i)) }
	}
	return repeat(ctx, s, calls, report)
}

// Call connects to the backend, sends a byte, expects it back, and closes.
func Call(ctx context.Context, address string) error {
	c, err := open(ctx, address, once)
	if err != nil {
		return err
	}
	defer c.Close()
	return answered(c)
}

func answered(c io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if b[0] != once {
		return fmt.Errorf("expected the byte %q back, got %q", once, b[0])
	}
	return nil
}

// repeat makes the calls, each again and again on a goroutine of its own, and measures. An error of any ends it.
func repeat(ctx context.Context, s Spec, calls []func() error, report func(Result)) error {
	var (
		total   atomic.Int64
		stop    atomic.Bool
		running sync.WaitGroup
		took    = make([]latencies, len(calls))
		failed  = make(chan error, len(calls))
	)
	meter, err := newMeter(s, &total)
	if err != nil {
		return err
	}
	for i, call := range calls {
		running.Go(func() {
			for !stop.Load() {
				began := time.Now()
				if err := call(); err != nil {
					failed <- err
					return
				}
				took[i].add(began, time.Now())
				total.Add(1)
			}
		})
	}
	r, done, err := meter.run(ctx, failed)
	to := time.Now()
	stop.Store(true)
	running.Wait()
	if err != nil {
		return err
	}
	r.Calls = done
	if err := r.percentiles(took, to.Add(-time.Duration(r.Seconds*float64(time.Second))), to); err != nil {
		return err
	}
	report(r)
	return nil
}

// prepare opens as many streams as the load will have, and ends them. What grows with the demand, as a pool of
// connections does, has grown then, and bulk that begins is not measured on the pool's first steps.
func prepare(ctx context.Context, s Spec) error {
	if s.Prepare == 0 {
		return nil
	}
	n := s.Streams
	if s.Behind != "" {
		n++
	}
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { errs[i] = use(ctx, s.address(i), s.Prepare) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// use opens a stream, uses it once, holds it and ends it.
func use(ctx context.Context, address string, hold time.Duration) error {
	c, err := open(ctx, address, once)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := answered(c); err != nil {
		return err
	}
	if err := pause(ctx, hold, nil); err != nil {
		return err
	}
	return finish(c)
}

// idle opens s.Streams streams, uses each once, and holds them until ctx ends.
func idle(ctx context.Context, s Spec, report func(Result)) error {
	for i := range s.Streams {
		c, err := open(ctx, s.address(i), once)
		if err != nil {
			return fmt.Errorf("stream %d: %w", i+1, err)
		}
		defer c.Close()
		if err := answered(c); err != nil {
			return fmt.Errorf("stream %d: %w", i+1, err)
		}
	}
	report(Result{Calls: int64(s.Streams)})
	<-ctx.Done()
	return nil
}
