package registry

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// Link is one link of one agent. Its fields do not change; its methods are safe for concurrent use.
type Link struct {
	Session   link.Session
	Agent     certs.ID
	Name      string
	Epoch     uint64
	Slot      uint16
	Transport string // as in link.Info
	Since     time.Time

	suspect func() bool
	rtt     func() time.Duration

	offered  []protocol.TunnelName // without duplicates
	statuses map[protocol.TunnelName]*status
	accepted atomic.Pointer[map[protocol.TunnelName]*status] // a subset of statuses, replaced whole by Registry.Reload
	calls    atomic.Int64
}

// status is what the agent says of one backend. The zero value is up: an agent need not check health.
type status struct {
	down atomic.Pointer[string] // nil while up, the agent's sentence otherwise
}

func newLink(o Offer) *Link {
	l := &Link{
		Session: o.Session, Agent: o.Agent, Name: o.Name, Epoch: o.Epoch, Slot: o.Slot,
		Transport: o.Session.Info().Transport, Since: time.Now(),
		suspect: o.Suspect, rtt: o.RTT,
		statuses: make(map[protocol.TunnelName]*status, len(o.Tunnels)),
	}
	for _, name := range o.Tunnels {
		if l.statuses[name] == nil {
			l.statuses[name] = new(status)
			l.offered = append(l.offered, name)
		}
	}
	l.accepted.Store(new(map[protocol.TunnelName]*status))
	return l
}

// Serves reports whether the link may serve the tunnel now.
func (l *Link) Serves(tunnel protocol.TunnelName) bool {
	_, ok := (*l.accepted.Load())[tunnel]
	return ok
}

// Up reports whether the tunnel's backend answers, as far as the agent has said.
func (l *Link) Up(tunnel protocol.TunnelName) bool {
	s, ok := (*l.accepted.Load())[tunnel]
	return ok && s.down.Load() == nil
}

// SetStatus takes in what the agent says of a backend; what it says of a tunnel that it did not offer is ignored.
func (l *Link) SetStatus(m *protocol.TunnelStatus) {
	s, ok := l.statuses[m.Name]
	switch {
	case !ok:
	case m.Up:
		s.down.Store(nil)
	default:
		s.down.Store(&m.Sentence)
	}
}

// Suspect reports whether the link has stopped answering: it gets calls only where nothing better is left.
func (l *Link) Suspect() bool { return l.suspect != nil && l.suspect() }

// RTT is the link's round trip, zero while unknown.
func (l *Link) RTT() time.Duration {
	if l.rtt == nil {
		return 0
	}
	return l.rtt()
}

// Calls counts the calls that are running on the link.
func (l *Link) Calls() int64 { return l.calls.Load() }

// Begin counts a call in; whoever begins one calls End once when it has ended.
func (l *Link) Begin() { l.calls.Add(1) }

// End counts a call out.
func (l *Link) End() { l.calls.Add(-1) }

func (l *Link) remote() string {
	if addr := l.Session.Info().Remote; addr != nil {
		return addr.String()
	}
	return ""
}

// Status describes a link for people and for `status`.
type Status struct {
	Agent     string         `json:"agent"`
	Name      string         `json:"name"`
	Epoch     uint64         `json:"epoch"`
	Transport string         `json:"transport"`
	Slot      uint16         `json:"slot"`
	Remote    string         `json:"remote"`
	Since     time.Time      `json:"since"`
	Suspect   bool           `json:"suspect"`
	RTT       time.Duration  `json:"rtt"` // nanoseconds
	Calls     int64          `json:"calls"`
	Duplicate bool           `json:"duplicate"` // another process uses the same identity and name
	Tunnels   []TunnelStatus `json:"tunnels"`
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
	for _, l := range r.links() {
		s := l.describe()
		s.Duplicate = r.agents[l.agentKey()].shared
		all = append(all, s)
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
	for _, name := range l.offered {
		t := TunnelStatus{Name: name, Accepted: l.Serves(name), Up: l.Up(name)}
		if down := l.statuses[name].down.Load(); down != nil {
			t.Sentence = *down
		}
		s.Tunnels = append(s.Tunnels, t)
	}
	return s
}
