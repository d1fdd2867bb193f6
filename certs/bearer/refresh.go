package bearer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	minGap     = 10 * time.Second // between the starts of two loads that nobody ordered
	maxBackoff = time.Minute      // between loads that fail
	maxWaiters = 64               // calls that wait for one load; more are told at once that the kid is unknown
	maxSkew    = 30 * time.Second // beyond it tokens begin to fail
)

var (
	errTooSoon = errors.New("the last load was less than 10 s ago")
	errCrowded = errors.New("too many wait for the load under way")
)

// A flight is one load, which others may wait for.
type flight struct {
	done    chan struct{} // closed when err is set
	err     error
	waiters int // guarded by issuer.mu
}

// run keeps the keys fresh until ctx ends.
func (i *issuer) run(ctx context.Context) error {
	if i.opaque != nil {
		<-ctx.Done()
		i.opaque.client.CloseIdleConnections()
		return nil
	}
	timer := time.NewTimer(i.firstWait())
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := i.attempt(ctx, i.gap())
		switch {
		case errors.Is(err, errTooSoon):
		case err != nil:
			failures++
		default:
			failures = 0
		}
		timer.Reset(i.nextWait(err, failures))
	}
}

// gap is how long a load must have been ago before the next: files cost nothing to read.
func (i *issuer) gap() time.Duration {
	if i.remote {
		return minGap
	}
	return 0
}

func (i *issuer) firstWait() time.Duration {
	if !i.remote {
		return i.poll
	}
	if s := i.snapshot.Load(); s != nil {
		return max(0, time.Until(s.at.Add(i.ttl)))
	}
	return 0
}

func (i *issuer) nextWait(err error, failures int) time.Duration {
	switch {
	case !i.remote:
		return i.poll
	case errors.Is(err, errTooSoon):
		return minGap
	case err != nil:
		// At least minGap, then doubling; the jitter keeps relays that fell together from asking together.
		return jitter(min(minGap<<min(failures-1, 8), maxBackoff)) + minGap/5
	}
	return max(minGap, jitter(i.ttl))
}

// jitter returns d ± 10 %.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// refresh loads the keys now, where there are any.
func (i *issuer) refresh(ctx context.Context) error {
	if i.opaque != nil {
		return nil
	}
	return i.attempt(ctx, 0)
}

// attempt loads the keys, unless the last load began less than gap ago; it joins a load that is under way. It blocks
// for at most fetchTimeout.
func (i *issuer) attempt(ctx context.Context, gap time.Duration) error {
	i.mu.Lock()
	if f := i.flight; f != nil {
		if f.waiters++; f.waiters > maxWaiters {
			i.mu.Unlock()
			return errCrowded
		}
		i.mu.Unlock()
		select {
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	now := time.Now()
	if gap > 0 && !i.lastTry.IsZero() && now.Sub(i.lastTry) < gap {
		i.mu.Unlock()
		return errTooSoon
	}
	f := &flight{done: make(chan struct{})}
	i.flight, i.lastTry = f, now
	i.mu.Unlock()

	f.err = i.loadOnce(ctx)
	i.mu.Lock()
	i.flight = nil
	i.mu.Unlock()
	close(f.done)
	return f.err
}

func (i *issuer) loadOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	doc, err := i.load(ctx)
	if err == nil {
		err = i.store(doc.body)
	}
	i.note(ctx, err, doc.date)
	return err
}

// store makes body the newest key set; a body that does not parse changes nothing.
func (i *issuer) store(body []byte) error {
	next := &snapshot{sum: sha256.Sum256(body), at: time.Now()}
	if before := i.snapshot.Load(); before != nil && bytes.Equal(before.sum[:], next.sum[:]) {
		next.keys = before.keys // the same pointer: cached verdicts stay
	} else {
		keys, err := parseKeySet(body, !i.svid.IsZero())
		if err != nil {
			return err
		}
		next.keys = keys
	}
	i.snapshot.Store(next)
	return nil
}

// note logs a fault once, and its end.
func (i *issuer) note(ctx context.Context, err error, date time.Time) {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // the process ends
	}
	i.mu.Lock()
	before, skewBefore := i.fault, i.skew
	if i.fault = ""; err != nil {
		i.fault = err.Error()
	}
	if !date.IsZero() {
		i.skew = time.Since(date).Round(time.Second)
	}
	fault, skew := i.fault, i.skew
	i.mu.Unlock()
	switch {
	case fault == before:
	case fault != "":
		i.log.WarnContext(ctx, "loading the issuer's keys went wrong, the old ones stay", "error", fault)
	default:
		i.log.InfoContext(ctx, "issuer's keys load again")
	}
	if skew.Abs() > maxSkew && skewBefore.Abs() <= maxSkew {
		i.log.WarnContext(ctx, "this clock and the issuer's differ", "code", "clock_skew", "ahead", skew)
	}
}
