package registry

import (
	"cmp"
	"slices"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// Status describes a link for people and for `status`.
type Status struct {
	Agent      string         `json:"agent"`
	Name       string         `json:"name"`
	Epoch      uint64         `json:"epoch"`
	Transport  string         `json:"transport"`
	Slot       uint16         `json:"slot"`
	Remote     string         `json:"remote"`
	Since      time.Time      `json:"since"`
	Suspect    bool           `json:"suspect"`
	RTT        time.Duration  `json:"rtt"` // nanoseconds
	Calls      int64          `json:"calls"`
	Lanes      int            `json:"lanes,omitempty"`      // connections of a lane link
	Busy       int            `json:"busy_lanes,omitempty"` // of them, those that carry a call
	Used       bool           `json:"used"`                 // the agent's next call comes here, or goes to another of its used links
	Why        string         `json:"why"`                  // it is used, or is not
	Sent       uint64         `json:"sent_bytes"`           // below TLS, with what was sent again
	Received   uint64         `json:"received_bytes"`
	Out        uint64         `json:"sent_per_second"`     // goodput in bytes: the mean of five seconds, without what was sent again
	In         uint64         `json:"received_per_second"` // likewise
	Packets    uint64         `json:"sent_packets"`
	Lost       uint64         `json:"lost_packets"`
	Loss       float64        `json:"loss"` // of the packets sent so far, the part that was lost
	Congestion string         `json:"congestion,omitempty"`
	Curve      string         `json:"curve,omitempty"` // key agreement of the TLS handshake
	Duplicate  bool           `json:"duplicate"`       // another process uses the same identity and name
	Tunnels    []TunnelStatus `json:"tunnels"`
}

// TunnelStatus is one tunnel of a link.
type TunnelStatus struct {
	Name     protocol.TunnelName `json:"name"`
	Accepted bool                `json:"accepted"`
	Up       bool                `json:"up"`
	Sentence string              `json:"sentence,omitempty"` // why it is down, in the agent's words
}

// Snapshot describes every link, by agent, name, epoch, transport and slot.
func (r *Registry) Snapshot() []Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := []Status{}
	for _, a := range r.agents {
		for _, session := range a.sessions {
			for _, l := range session {
				s := l.describe()
				s.Duplicate = a.shared
				s.Used, s.Why = l.use(session)
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Epoch, b.Epoch),
			cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Slot, b.Slot))
	})
	return all
}

func (l *Link) describe() Status {
	s := Status{
		Agent: l.Agent.String(), Name: l.Name, Epoch: l.Epoch, Transport: l.Transport, Slot: l.Slot,
		Remote: l.remote(), Since: l.Since, Suspect: l.Suspect(), RTT: l.RTT(), Calls: l.Calls(),
	}
	s.Lanes, s.Busy = l.lanes()
	if curve := l.Session.Info().TLS.CurveID; curve != 0 {
		s.Curve = curve.String()
	}
	stats, goodput := l.Stats(), l.meter.Goodput()
	s.Sent, s.Received, s.Out, s.In = stats.SentBytes, stats.ReceivedBytes, goodput.Sent, goodput.Received
	s.Packets, s.Lost, s.Loss, s.Congestion = stats.SentPackets, stats.LostPackets, stats.Loss(), stats.Congestion
	for _, name := range l.offered {
		t := TunnelStatus{Name: name, Accepted: l.Serves(name), Up: l.Up(name)}
		if down := l.statuses[name].down.Load(); down != nil {
			t.Sentence = *down
		}
		s.Tunnels = append(s.Tunnels, t)
	}
	return s
}

// Agents counts the agent processes that serve a tunnel, and of them those that have a link that answers and whose
// backend is up.
func (r *Registry) Agents(tunnel protocol.TunnelName) (all, up int) {
	type process struct {
		agentKey
		epoch uint64
	}
	ups := map[process]bool{}
	for _, l := range r.Candidates(tunnel) {
		if !l.Vacant() {
			key := process{l.agentKey(), l.Epoch}
			ups[key] = ups[key] || l.Up(tunnel) && !l.Suspect()
		}
	}
	for _, isUp := range ups {
		if isUp {
			up++
		}
	}
	return len(ups), up
}

// use says whether l is among those of its session's links that calls take now, and why. A tunnel whose backend is down
// does not change it: that holds on every link.
func (l *Link) use(session map[slotKey]*Link) (used bool, why string) {
	best := l
	for _, other := range session {
		if cmp.Or(cmp.Compare(other.trouble(), best.trouble()), cmp.Compare(other.Standby(), best.Standby())) < 0 {
			best = other
		}
	}
	used = l.trouble() < vacant && l.trouble() == best.trouble() && l.Standby() == best.Standby()
	switch {
	case l.trouble() != fine:
		return used, l.trouble().String()
	case l.Transport == Lane:
		return used, "a lane is free"
	case l.Transport == "quic" && used:
		return used, "TCP does not answer"
	case l.Transport == "quic":
		return used, "stands by while TCP lives"
	case used:
		return used, "no lane is free"
	}
	return used, "lanes are free"
}

// trouble is why a link is not as good as it could be, the worst last.
type trouble int

const (
	fine trouble = iota
	suspect
	full
	vacant
)

func (t trouble) String() string {
	return [...]string{"", "does not answer", "every lane is busy", "no lane stands"}[t]
}

func (l *Link) trouble() trouble {
	switch {
	case l.Vacant():
		return vacant
	case l.Full():
		return full
	case l.Suspect():
		return suspect
	}
	return fine
}
