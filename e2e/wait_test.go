//go:build linux

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"
)

// errNotYet says that what is waited for has not come about.
var errNotYet = errors.New("not yet")

// within asks every 25 ms until ask returns nil, and returns after how long it did. It ends the test after bound.
func within(t *testing.T, bound time.Duration, what string, ask func(context.Context) error) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, bound, err)
		}
	}
}
