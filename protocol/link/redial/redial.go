// Package redial keeps one link up: it tries, waits and tries again until it is told to stop. How a link is dialled
// and what is done with it is the caller's.
package redial

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// The waits between attempts. The first one after a link that stood is short, because most losses are a relay's
// restart; all of them are jittered over their whole length, so that a thousand agents do not come back as one.
const (
	firstWait  = 50 * time.Millisecond
	stepWait   = 100 * time.Millisecond // doubled by each failure
	youngCap   = time.Second            // for the first minute without a link
	oldCap     = 30 * time.Second       // after it
	youngFor   = time.Minute
	stoodAfter = 2 * time.Second // a link that ends sooner counts as a failure
)

// Attempt dials and serves one link, calls up once when it stands, and returns when it has ended.
type Attempt func(ctx context.Context, up func()) error

// Observer is told how the loop fares; a nil func is not called.
type Observer struct {
	Lost  func(err error, stood, wait time.Duration) // a link that stood has ended; the next attempt comes after wait
	Retry func(err error, failures int, wait time.Duration)
}

// Loop runs attempt until ctx ends. An error that has a RetryAfter() time.Duration method lengthens the wait to at
// least that.
func Loop(ctx context.Context, attempt Attempt, o Observer) {
	var b backoff
	b.lostAt = time.Now()
	for ctx.Err() == nil {
		var upAt time.Time
		err := attempt(ctx, func() { upAt = time.Now() })
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		stood := time.Duration(0)
		if !upAt.IsZero() {
			stood = now.Sub(upAt)
		}
		if stood >= stoodAfter {
			b = backoff{lostAt: now}
		}
		wait := b.next(now, retryAfter(err))
		if stood > 0 {
			if o.Lost != nil {
				o.Lost(err, stood, wait)
			}
		} else if o.Retry != nil {
			o.Retry(err, b.failures, wait)
		}
		sleep(ctx, wait)
	}
}

type backoff struct {
	failures int
	lostAt   time.Time // when the last link that stood ended
}

// next counts one more failure and returns the wait after it, drawn evenly from the whole range.
func (b *backoff) next(now time.Time, atLeast time.Duration) time.Duration {
	limit := b.limit(now)
	b.failures++
	return max(rand.N(limit+1), atLeast+rand.N(atLeast/2+1))
}

func (b *backoff) limit(now time.Time) time.Duration {
	if b.failures == 0 {
		return firstWait
	}
	ceiling := youngCap
	if now.Sub(b.lostAt) >= youngFor {
		ceiling = oldCap
	}
	return min(stepWait<<min(b.failures, 16), ceiling)
}

func retryAfter(err error) time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		return max(0, r.RetryAfter())
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
