package control

import (
	"testing"
	"time"
)

// sim steps a pulse through time as Run does, at the moments that wake asks for.
type sim struct {
	*pulse
	now      time.Time
	received uint64
	busy     bool
	rtt      time.Duration
	pings    int
}

func newSim(busy bool) *sim {
	now := time.Unix(1e9, 0)
	return &sim{pulse: newPulse(Config{}.withDefaults(), now, 0), now: now, busy: busy}
}

// until runs to the moment t after the start of the call, or to death, which it reports.
func (s *sim) until(t time.Duration) (dead bool) {
	end := s.now.Add(t)
	for {
		s.look(s.now, s.received, s.busy, s.rtt)
		if s.now.Sub(s.heard) >= s.dead {
			return true
		}
		if s.due(s.now) {
			s.ping(s.now)
			s.pings++
		}
		next := s.now.Add(s.wake(s.now))
		if next.After(end) {
			s.now = end
			return false
		}
		s.now = next
	}
}

func (s *sim) answer() {
	s.received += 15
	s.pong(s.token, s.now)
}

func TestSilenceIsSuspectAfter300msAndDeadAfterItsTime(t *testing.T) {
	for _, c := range []struct {
		busy bool
		dead time.Duration
	}{{true, 5 * time.Second}, {false, 15 * time.Second}} {
		s := newSim(c.busy)
		start := s.now
		if s.until(299 * time.Millisecond); s.suspect {
			t.Errorf("busy %v: suspect after 299 ms", c.busy)
		}
		if s.until(2 * time.Millisecond); !s.suspect {
			t.Errorf("busy %v: not suspect after 301 ms", c.busy)
		}
		if !s.until(time.Minute) || s.now.Sub(start) != c.dead {
			t.Errorf("busy %v: dead after %v; expected %v", c.busy, s.now.Sub(start), c.dead)
		}
	}
}

func TestALongRoundTripIsGivenFourOfThem(t *testing.T) {
	s := newSim(true)
	s.rtt = 200 * time.Millisecond
	if s.until(799 * time.Millisecond); s.suspect {
		t.Error("suspect after 799 ms with 200 ms round trips")
	}
	if s.until(2 * time.Millisecond); !s.suspect {
		t.Error("not suspect after 801 ms with 200 ms round trips")
	}
}

func TestAnAnswerClearsSuspicion(t *testing.T) {
	s := newSim(true)
	s.until(400 * time.Millisecond)
	s.answer()
	if s.until(10 * time.Millisecond); s.suspect {
		t.Error("still suspect after the answer")
	}
}

func TestASaturatedUploadIsNotTakenForSilence(t *testing.T) {
	s := newSim(true)
	for range 600 { // a minute in which no pong comes, but window updates do
		s.received++
		if s.until(100*time.Millisecond) || s.suspect {
			t.Fatalf("suspect %v after bytes arrived", s.suspect)
		}
	}
}

func TestAProcessThatStoodStillDoesNotBlameItsPeer(t *testing.T) {
	s := newSim(true)
	s.until(100 * time.Millisecond)
	s.answer()
	s.until(100 * time.Millisecond)
	s.now = s.now.Add(90 * time.Second) // SIGSTOP
	if s.until(200 * time.Millisecond) {
		t.Fatal("dead at once after standing still")
	}
	s.answer()
	if s.until(200*time.Millisecond) || s.suspect {
		t.Error("suspect although the peer answered after the stop")
	}
}

func TestPingsComeEverySecondWhileBusyAndEveryFiveIdle(t *testing.T) {
	for _, c := range []struct {
		busy bool
		want int
	}{{true, 60}, {false, 12}} {
		s := newSim(c.busy)
		for range 600 {
			s.until(100 * time.Millisecond)
			s.answer()
		}
		if s.pings < c.want || s.pings > c.want+1 {
			t.Errorf("busy %v: %d pings a minute; expected %d", c.busy, s.pings, c.want)
		}
	}
}

func TestTheLoopSleeps(t *testing.T) {
	s := newSim(true)
	s.until(10 * time.Millisecond)
	s.received++ // heard after the ping, no pong: neither suspect nor answered
	s.look(s.now.Add(400*time.Millisecond), s.received, true, 0)
	if d := s.wake(s.now.Add(400 * time.Millisecond)); d < 100*time.Millisecond {
		t.Errorf("wakes again after %v with nothing to do", d)
	}
}
