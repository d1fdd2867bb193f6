package chunked

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

const kib = 1 << 10

// consume plays a sender that uses all its credit and a reader that takes it all, every period, and returns the size
// that the window comes to have.
func consume(w *window, rounds int, period time.Duration) int {
	for range rounds {
		time.Sleep(period)
		w.arrived(w.granted)
		w.consumed(0)
	}
	return w.size
}

func TestBusyStreamsWindowGrowsToItsMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(256*kib, 16<<20, link.NewBudget(64<<20))
		if got := consume(&w, 20, 100*time.Millisecond); got != 16<<20 {
			t.Errorf("the window came to %d bytes, expected 16 MiB", got)
		}
	})
}

func TestWindowGrowsWithTheRoundTripAndNotBeyond(t *testing.T) {
	for _, c := range []struct {
		rtt, half time.Duration // the round trip, and how long half a window takes while it is 256 KiB
		want      int
	}{
		{50 * time.Millisecond, 5 * time.Millisecond, 16 << 20}, // 25 MiB/s: 1.25 MiB under way
		{50 * time.Millisecond, 50 * time.Millisecond, 1 << 20}, // 2.5 MiB/s: 128 KiB under way
		{100 * time.Microsecond, 200 * time.Microsecond, 2 << 20},
		{5 * time.Second, time.Second, 256 * kib},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWindow(256*kib, 16<<20, link.NewBudget(64<<20))
			w.rtt = func() time.Duration { return c.rtt }
			for range 20 { // a stream of one rate: larger windows take longer
				half := w.size / 2
				time.Sleep(c.half * time.Duration(half) / (128 * kib))
				w.arrived(half)
				w.consumed(0)
			}
			if w.size != c.want {
				t.Errorf("half of 256 KiB in %v at a round trip of %v: the window came to %d bytes, expected %d", c.half, c.rtt, w.size, c.want)
			}
		})
	}
}

func TestSlowStreamsWindowLeavesTheBudgetAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := link.NewBudget(64 << 20)
		w := newWindow(256*kib, 16<<20, budget)
		if got := consume(&w, 20, 2*time.Second); got != 256*kib || budget.Left() != 64<<20 {
			t.Errorf("the window came to %d bytes and left %d of the budget", got, budget.Left())
		}
	})
}

func TestWindowOfAReaderThatLagsDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(256*kib, 16<<20, link.NewBudget(64<<20))
		for range 20 {
			w.arrived(w.granted)
			w.consumed(w.size / 2) // half of it stays unread
		}
		if w.size != 256*kib {
			t.Errorf("the window came to %d bytes, expected what it was", w.size)
		}
	})
}

func TestWindowsGrowWithinTheBudgetAndGiveItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := link.NewBudget(1 << 20)
		a := newWindow(256*kib, 16<<20, budget)
		b := newWindow(256*kib, 16<<20, budget)
		if got := consume(&a, 20, time.Millisecond); got != 1<<20 {
			t.Errorf("the first window came to %d bytes, expected 1 MiB", got)
		}
		if got := consume(&b, 20, time.Millisecond); got != 512*kib {
			t.Errorf("the second window came to %d bytes, expected 512 KiB of what was left", got)
		}
		a.release()
		b.release()
		if budget.Left() != 1<<20 {
			t.Errorf("%d bytes of the budget are left, expected all", budget.Left())
		}
	})
}

func TestWindowNeverPromisesMoreThanItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(256*kib, 1<<20, link.NewBudget(1<<20))
		buffered := 0
		for i := range 10_000 {
			n := min(w.granted, 1+i*7919%40_000)
			w.arrived(n)
			buffered += n
			buffered -= min(buffered, i*104_729%50_000)
			w.consumed(buffered)
			if w.granted+buffered > w.size {
				t.Fatalf("after %d steps %d bytes granted and %d buffered exceed the window of %d", i, w.granted, buffered, w.size)
			}
		}
		if w.arrived(w.granted + 1) {
			t.Error("more than was granted was taken")
		}
	})
}
