package registry

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// Lane is the Transport of the link that an agent's lanes are together.
const Lane = "lane"

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
	doubted atomic.Bool // by relate

	offered  []protocol.TunnelName // without duplicates
	tokens   []protocol.TunnelName
	statuses map[protocol.TunnelName]*status
	accepted atomic.Pointer[map[protocol.TunnelName]*status] // a subset of statuses, replaced whole by Registry.Reload
	calls    atomic.Int64
	meter    link.Meter
}

// status is what the agent says of one backend. The zero value is up: an agent need not check health.
type status struct {
	down atomic.Pointer[string] // nil while up, the agent's sentence otherwise
}

func newLink(o Offer) *Link {
	l := &Link{
		Session: o.Session, Agent: o.Agent, Name: o.Name, Epoch: o.Epoch, Slot: o.Slot,
		Transport: o.Session.Info().Transport, Since: time.Now(),
		suspect: o.Suspect, rtt: o.RTT, tokens: o.Tokens,
		statuses: make(map[protocol.TunnelName]*status, len(o.Tunnels)),
	}
	for _, name := range o.Tunnels {
		if l.statuses[name] == nil {
			l.statuses[name] = new(status)
			l.offered = append(l.offered, name)
		}
	}
	l.meter.Tick(link.Stats{}, l.Since)
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

// WantsToken reports whether the agent verifies the caller's own token at this tunnel.
func (l *Link) WantsToken(tunnel protocol.TunnelName) bool { return slices.Contains(l.tokens, tunnel) }

// share makes l hear of backends what sibling, a link of the same agent process, hears: an agent speaks on its control
// streams, and lanes have none. Where renew says that nobody has heard the agent of late, what sibling knows is
// forgotten: the agent tells each new link what is down, and not what has come up meanwhile. It is called before l is
// listed.
func (l *Link) share(sibling *Link, renew bool) {
	for name := range l.statuses {
		if s := sibling.statuses[name]; s != nil {
			l.statuses[name] = s
			if renew {
				s.down.Store(nil)
			}
		}
	}
}

// Full reports whether no stream can be opened now: every lane is busy.
func (l *Link) Full() bool {
	f, ok := l.Session.(interface{ Free() int })
	return ok && f.Free() == 0
}

// Vacant reports whether nothing is left of the link for now: its lanes have all ended, and new ones may come.
func (l *Link) Vacant() bool {
	all, _ := l.lanes()
	return l.Transport == Lane && all == 0
}

// lanes counts the connections of a lane link, and of them those that carry a call.
func (l *Link) lanes() (all, busy int) {
	if s, ok := l.Session.(interface{ Lanes() (all, busy int) }); ok {
		return s.Lanes()
	}
	return 0, 0
}

// Standby orders those links of an agent that do as well otherwise, the first one lowest: a lane, TCP's shared link,
// QUIC, which stands by (design §6).
func (l *Link) Standby() int {
	switch l.Transport {
	case Lane:
		return 0
	case "quic":
		return 2
	}
	return 1
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
func (l *Link) Suspect() bool { return l.doubted.Load() || l.suspect != nil && l.suspect() }

// RTT is the link's round trip, zero while unknown.
func (l *Link) RTT() time.Duration {
	if l.rtt == nil {
		return l.Stats().RTT
	}
	return l.rtt()
}

// Stats are the link's own figures, zero where it has none.
func (l *Link) Stats() link.Stats {
	if m, ok := l.Session.(link.Measured); ok {
		return m.Stats()
	}
	return link.Stats{}
}

// Calls counts the calls that are running on the link.
func (l *Link) Calls() int64 { return l.calls.Load() }

// Begin counts a call in; whoever begins one calls End once when it has ended.
func (l *Link) Begin() { l.calls.Add(1) }

// End counts a call out.
func (l *Link) End() { l.calls.Add(-1) }

func (l *Link) sameProcess(o *Link) bool {
	return l.Epoch == o.Epoch && l.Agent == o.Agent && l.Name == o.Name
}

func (l *Link) remote() string {
	if addr := l.Session.Info().Remote; addr != nil {
		return addr.String()
	}
	return ""
}
