package yamuxlink

import (
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

var _ link.Measured = (*Session)(nil)

// Stats implements link.Measured: what the system knows of the one connection, and knew in the end.
func (s *Session) Stats() link.Stats {
	if sock := socket.Under(s.conn.Conn); sock != nil {
		if state, ok := socket.Ask(sock); ok {
			return state.Stats
		}
	}
	if last := s.last.Load(); last != nil {
		return *last
	}
	return link.Stats{}
}

// rttEvery is how often the system is asked for the round trip, at most.
const rttEvery = 100 * time.Millisecond

// A sample is the round trip as it was at some time.
type sample struct {
	rtt time.Duration
	at  time.Time
}

// rtt returns a round trip that is at most rttEvery old, 0 where the system cannot say.
func (s *Session) rtt() time.Duration {
	last := s.sample.Load()
	if last == nil || time.Since(last.at) > rttEvery {
		last = &sample{rtt: s.Stats().RTT, at: time.Now()}
		s.sample.Store(last)
	}
	return last.rtt
}
