package link

import (
	"sync"
	"time"
)

// Stats are a link's own figures, measured from its live traffic. Fields that a platform cannot tell are zero.
type Stats struct {
	RTT                      time.Duration // smoothed
	SentBytes, ReceivedBytes uint64        // on the wire
	SentPackets, LostPackets uint64        // segments or packets sent in all, and of them sent again or lost
	Congestion               string        // the congestion controller, such as "bbr" or "cubic"
}

// Loss is the part of the packets sent that was lost, 0 to 1.
func (s Stats) Loss() float64 {
	if s.SentPackets == 0 {
		return 0
	}
	return min(1, float64(s.LostPackets)/float64(s.SentPackets))
}

// Measured is what a Session offers that can tell its Stats. The call asks the system and may be made once a second.
type Measured interface{ Stats() Stats }

// Plus is the sum of two links' counters, with the figures of s otherwise.
func (s Stats) Plus(o Stats) Stats {
	s.SentBytes += o.SentBytes
	s.ReceivedBytes += o.ReceivedBytes
	s.SentPackets += o.SentPackets
	s.LostPackets += o.LostPackets
	return s
}

// Goodput is what a link carries, in bytes a second: TLS and framing included, what was sent again left out.
type Goodput struct{ Sent, Received uint64 }

// MeterEvery is how often a Meter's Tick is meant to be called.
const MeterEvery = 5 * time.Second

// Meter follows a link by readings of its Stats. The zero value is ready, and safe for concurrent use.
type Meter struct {
	mu     sync.Mutex // guards: all below
	high   Stats      // counters of the connection that is read now: they never fall
	total  Stats      // counters of all connections
	ticked Stats      // total at the last Tick, and its time
	at     time.Time
	rate   Goodput
}

// Read takes a reading in, and returns what has come since the one before. A reading of a link that has ended may be
// all zero, and adds nothing.
func (m *Meter) Read(s Stats) (more Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read(s)
}

func (m *Meter) read(s Stats) (more Stats) {
	rise := func(high *uint64, now uint64) uint64 {
		before := *high
		*high = max(before, now)
		return *high - before
	}
	more = Stats{
		SentBytes: rise(&m.high.SentBytes, s.SentBytes), ReceivedBytes: rise(&m.high.ReceivedBytes, s.ReceivedBytes),
		SentPackets: rise(&m.high.SentPackets, s.SentPackets), LostPackets: rise(&m.high.LostPackets, s.LostPackets),
	}
	m.total = m.total.Plus(more)
	return more
}

// Renew says that the next reading is of another connection, whose counters begin at zero.
func (m *Meter) Renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.high = Stats{}
}

// Tick is Read, and makes Goodput the mean since the Tick before.
func (m *Meter) Tick(s Stats, now time.Time) (more Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	more = m.read(s)
	if d := now.Sub(m.at).Seconds(); !m.at.IsZero() && d > 0 {
		since := Stats{SentPackets: m.total.SentPackets - m.ticked.SentPackets, LostPackets: m.total.LostPackets - m.ticked.LostPackets}
		sent := float64(m.total.SentBytes-m.ticked.SentBytes) * (1 - since.Loss())
		m.rate = Goodput{Sent: uint64(sent / d), Received: uint64(float64(m.total.ReceivedBytes-m.ticked.ReceivedBytes) / d)}
	}
	m.ticked, m.at = m.total, now
	return more
}

// Total returns the counters of all that was read.
func (m *Meter) Total() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// Goodput is the mean between the last two Ticks, zero before.
func (m *Meter) Goodput() Goodput {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rate
}
