//go:build linux

package lab

import (
	"testing"
	"time"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestDelayKeepsOrderWhenItShrinks(t *testing.T) {
	l := newLine(Conditions{Delay: 50 * time.Millisecond}, 1)
	first, _ := l.admit(began, 100)
	if got := first.Sub(began); got != 50*time.Millisecond {
		t.Errorf("came out after %s, want 50ms", got)
	}
	l.Delay = 0
	if second, _ := l.admit(began.Add(time.Millisecond), 100); second.Before(first) {
		t.Errorf("a later packet came out %s before an earlier one", first.Sub(second))
	}
}

func TestRateSpacesPacketsByTheirSize(t *testing.T) {
	l := newLine(Conditions{Rate: 8_000_000}, 1) // 1 byte a microsecond
	for i := 1; i <= 10; i++ {
		due, what := l.admit(began, 1000)
		if want := time.Duration(i) * time.Millisecond; what != passes || due.Sub(began) != want {
			t.Fatalf("packet %d: came out after %s (%v), want %s", i, due.Sub(began), what, want)
		}
	}
}

func TestQueueOverflowsAndDrains(t *testing.T) {
	l := newLine(Conditions{Rate: 8_000_000, Queue: 3000}, 1)
	for i := range 3 {
		if _, what := l.admit(began, 1000); what != passes {
			t.Fatalf("packet %d did not fit in the queue", i)
		}
	}
	if _, what := l.admit(began, 1000); what != overflows {
		t.Error("a fourth packet of 1000 bytes fitted in a queue of 3000")
	}
	if _, what := l.admit(began.Add(time.Millisecond), 1000); what != passes {
		t.Error("no place after the first packet had left")
	}
}

func TestSeedRepeatsItsLosses(t *testing.T) {
	losses := func(seed uint64) (n int, which [1000]bool) {
		l := newLine(Conditions{Loss: 0.2}, seed)
		for i := range which {
			_, what := l.admit(began, 100)
			if which[i] = what == lost; which[i] {
				n++
			}
		}
		return n, which
	}
	n, first := losses(7)
	if n < 150 || n > 250 {
		t.Errorf("lost %d of 1000 packets at 20 %%", n)
	}
	if _, second := losses(7); first != second {
		t.Error("the same seed lost other packets")
	}
	if _, other := losses(8); first == other {
		t.Error("another seed lost the same packets")
	}
}

func TestCutLineCarriesNothing(t *testing.T) {
	l := newLine(Conditions{Cut: true}, 1)
	if _, what := l.admit(began, 100); what != cut {
		t.Errorf("got %v, want cut", what)
	}
}
