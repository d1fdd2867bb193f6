package control

import "time"

// pulse is the state of one end's judgement of the other: pure arithmetic on the times it is given, so that it is
// tested without waiting. Any byte from the peer breaks a silence, not pongs alone: a ping may queue behind a
// saturated upload, and that must not end the link.
type pulse struct {
	cfg Config

	every, dead, patience time.Duration // as of the last look

	heard    time.Time // when the peer last proved alive
	received uint64    // the session's count then
	pinged   time.Time // when the last ping left
	waiting  time.Time // when the first unanswered one left; zero: all answered
	token    uint64    // the last ping's
	wakeAt   time.Time
	suspect  bool
}

func newPulse(cfg Config, now time.Time, received uint64) *pulse {
	return &pulse{cfg: cfg, heard: now, received: received, wakeAt: now, every: cfg.IdleEvery, dead: cfg.IdleDead}
}

// look takes in what has arrived. A look that comes much later than wake asked for means that this process stood
// still (suspended, starved), which is no fault of the peer's: the lateness is not counted as silence.
func (p *pulse) look(now time.Time, received uint64, busy bool, rtt time.Duration) {
	if late := now.Sub(p.wakeAt); late > time.Second {
		p.heard = p.heard.Add(late)
		if !p.waiting.IsZero() {
			p.waiting = p.waiting.Add(late)
		}
	}
	if received != p.received {
		p.received, p.heard = received, now
	}
	p.every, p.dead = p.cfg.IdleEvery, p.cfg.IdleDead
	if busy {
		p.every, p.dead = p.cfg.BusyEvery, p.cfg.BusyDead
	}
	p.patience = max(p.cfg.SuspectAfter, 4*rtt)
	p.suspect = !p.waiting.IsZero() && !p.heard.After(p.waiting) && now.Sub(p.waiting) >= p.patience
	if p.suspect {
		p.every = min(p.every, p.cfg.BusyEvery)
	}
}

func (p *pulse) due(now time.Time) bool { return now.Sub(p.pinged) >= p.every }

// ping notes that a ping leaves and returns its token.
func (p *pulse) ping(now time.Time) uint64 {
	if p.waiting.IsZero() || p.heard.After(p.waiting) {
		p.waiting = now
	}
	p.pinged = now
	p.token++
	return p.token
}

// pong notes an answer; ok when it is the last ping's, whose round trip is known.
func (p *pulse) pong(token uint64, now time.Time) (rtt time.Duration, ok bool) {
	p.heard = now
	if token != p.token || p.waiting.IsZero() {
		return 0, false
	}
	p.waiting = time.Time{}
	return now.Sub(p.pinged), true
}

// wake is how long to sleep from now, one second at most so that a link that becomes busy is noticed.
func (p *pulse) wake(now time.Time) time.Duration {
	at := now.Add(time.Second)
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	earlier(p.pinged.Add(p.every))
	earlier(p.heard.Add(p.dead))
	if !p.waiting.IsZero() && !p.suspect && !p.heard.After(p.waiting) {
		earlier(p.waiting.Add(p.patience))
	}
	p.wakeAt = at
	return max(at.Sub(now), time.Millisecond)
}
