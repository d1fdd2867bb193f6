package redial

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("down")

type later time.Duration

func (l later) Error() string             { return "later" }
func (l later) RetryAfter() time.Duration { return time.Duration(l) }

func TestTheFirstRedialComesWithin50ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var lost time.Time
		n := 0
		Loop(ctx, func(_ context.Context, up func()) error {
			if n++; n == 2 {
				if gap := time.Since(lost); gap > firstWait {
					t.Errorf("redialled after %v", gap)
				}
				cancel()
				return nil
			}
			up()
			time.Sleep(time.Hour)
			lost = time.Now()
			return errDown
		}, Observer{})
	})
}

func TestWaitsAreCappedAtOneSecondForAMinuteAndThirtyAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		early, late := time.Duration(0), time.Duration(0)
		attempts := 0
		Loop(ctx, func(context.Context, func()) error { attempts++; return errDown }, Observer{
			Lost: func(error, time.Duration, time.Duration) { t.Error("a link that never stood was lost") },
			Retry: func(_ error, _ int, wait time.Duration) {
				if time.Since(start) < youngFor {
					early = max(early, wait)
				} else {
					late = max(late, wait)
				}
			}})
		if early > youngCap || early < youngCap/2 {
			t.Errorf("longest wait in the first minute %v; expected close to %v", early, youngCap)
		}
		if late > oldCap || late < oldCap/2 {
			t.Errorf("longest wait after it %v; expected close to %v", late, oldCap)
		}
		if attempts < 200 || attempts > 1000 {
			t.Errorf("%d attempts in an hour", attempts)
		}
	})
}

func TestALinkThatEndsAtOnceIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		attempts := 0
		Loop(ctx, func(_ context.Context, up func()) error {
			attempts++
			up()
			time.Sleep(time.Millisecond)
			return errDown
		}, Observer{})
		if attempts > 300 {
			t.Errorf("%d attempts a minute at a relay that accepts and drops", attempts)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		start := time.Now()
		Loop(ctx, func(context.Context, func()) error {
			if n++; n == 2 {
				if waited := time.Since(start); waited < 20*time.Second || waited > 30*time.Second {
					t.Errorf("came back after %v; expected 20 s to 30 s", waited)
				}
				cancel()
			}
			return later(20 * time.Second)
		}, Observer{})
	})
}

func TestTheLoopStopsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Loop(ctx, func(context.Context, func()) error { return later(time.Hour) }, Observer{})
		}()
		synctest.Wait()
		cancel()
		<-done
	})
}
