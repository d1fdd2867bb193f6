//go:build linux

package lab

import (
	"math/rand/v2"
	"time"
)

const (
	// queueTime is how much a queue of unsaid size holds: 100 ms at the line's rate, as in many routers.
	queueTime = 100 * time.Millisecond
	// minQueue is the least such a queue holds, in bytes: some packets, whatever the rate.
	minQueue = 64 << 10
)

// Conditions are what one direction of a path does to packets. The zero value carries everything at once.
type Conditions struct {
	Delay time.Duration // added to every packet
	Loss  float64       // share of packets lost, 0 to 1
	Rate  int64         // bits a second; 0: as fast as it goes
	Queue int           // bytes that may wait for the line; 0: 100 ms of Rate, at least 64 KiB. More are dropped.
	Cut   bool          // nothing passes, and nobody is told
}

// fate is what becomes of a packet.
type fate int

const (
	passes fate = iota
	lost
	overflows
	cut
)

// A line applies conditions to a sequence of packets, in the order in which they arrive. It does not carry them, and
// is not safe for concurrent use.
type line struct {
	Conditions
	random *rand.Rand
	free   time.Time // when the line will have sent what it has taken
	last   time.Time // when the packet before this one comes out: packets never overtake
}

// newLine returns a line whose losses the seed decides.
func newLine(c Conditions, seed uint64) *line {
	return &line{Conditions: c, random: rand.New(rand.NewPCG(seed, 0))}
}

// admit says what becomes of a packet of size bytes that arrives at now, and when it comes out if it passes.
func (l *line) admit(now time.Time, size int) (time.Time, fate) {
	if l.Cut {
		return time.Time{}, cut
	}
	// Drawn for every packet, so that the sequence of losses does not depend on timing.
	if l.random.Float64() < l.Loss {
		return time.Time{}, lost
	}
	if l.free.Before(now) {
		l.free = now
	}
	if l.Rate > 0 {
		if waiting := bytesIn(l.free.Sub(now), l.Rate); waiting+int64(size) > l.queue() {
			return time.Time{}, overflows
		}
		l.free = l.free.Add(time.Duration(int64(size) * 8 * int64(time.Second) / l.Rate))
	}
	l.last = later(l.last, l.free.Add(l.Delay))
	return l.last, passes
}

func (l *line) queue() int64 {
	if l.Queue > 0 {
		return int64(l.Queue)
	}
	return max(minQueue, bytesIn(queueTime, l.Rate))
}

// bytesIn returns how many bytes a line of rate bits a second carries in d.
func bytesIn(d time.Duration, rate int64) int64 {
	return int64(d.Seconds() * float64(rate) / 8)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
