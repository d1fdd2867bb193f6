package uplink

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

// Status is one link as `fairlead-agent status` shows it.
type Status struct {
	Relay      string            `json:"relay"`
	Address    string            `json:"address"`
	Transport  string            `json:"transport"`
	Up         bool              `json:"up"`
	Suspect    bool              `json:"suspect"`
	Since      time.Time         `json:"since"`
	RelayID    string            `json:"relay_id,omitempty"`
	RelayName  string            `json:"relay_name,omitempty"`
	Local      string            `json:"local,omitempty"`
	Curve      string            `json:"curve,omitempty"` // key agreement of the TLS handshake
	RTT        time.Duration     `json:"rtt_ns,omitempty"`
	Streams    int               `json:"streams"`
	Lanes      int               `json:"lanes,omitempty"`      // connections of a lane link
	Busy       int               `json:"busy_lanes,omitempty"` // of them, those that carry a call
	Used       bool              `json:"used"`                 // the relay's next call comes here, as far as this side knows
	Why        string            `json:"why"`                  // it is used, or is not
	Sent       uint64            `json:"sent_bytes"`           // below TLS, with what was sent again
	Received   uint64            `json:"received_bytes"`
	Out        uint64            `json:"sent_per_second"`     // goodput in bytes: the mean of five seconds, without what was sent again
	In         uint64            `json:"received_per_second"` // likewise
	Packets    uint64            `json:"sent_packets"`
	Lost       uint64            `json:"lost_packets"`
	Loss       float64           `json:"loss"` // of the packets sent so far, the part that was lost
	Congestion string            `json:"congestion,omitempty"`
	UDP        *Buffers          `json:"udp_buffers,omitempty"` // of a link over QUIC
	Total      link.Stats        `json:"-"`                     // counters of this and the links before it
	Refused    map[string]string `json:"refused,omitempty"`     // tunnel to code
	LastError  string            `json:"last_error,omitempty"`
}

// Buffers are what the kernel gave a UDP socket, in bytes; Short is what is missing of Wanted in the smaller one.
type Buffers struct {
	Wanted  int `json:"wanted"`
	Receive int `json:"receive"`
	Send    int `json:"send"`
	Short   int `json:"short"`
}

func (e *end) snapshot() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Relay: e.relay, Address: e.address, Transport: e.transport, Since: e.since, Total: e.meter.Total()}
	if e.err != nil {
		s.LastError = e.err.Error()
	}
	if e.session == nil {
		return s
	}
	info := e.session.Info()
	s.Up, s.Streams = true, e.session.Streams()
	stats, goodput := e.stats(), e.meter.Goodput()
	e.meter.Read(stats)
	s.Total = e.meter.Total()
	s.RTT, s.Sent, s.Received, s.Out, s.In = stats.RTT, stats.SentBytes, stats.ReceivedBytes, goodput.Sent, goodput.Received
	s.Packets, s.Lost, s.Loss, s.Congestion = stats.SentPackets, stats.LostPackets, stats.Loss(), stats.Congestion
	if b, ok := e.session.(interface{ Buffers() quiclink.Buffers }); ok {
		b := b.Buffers()
		s.UDP = &Buffers{Wanted: b.Wanted, Receive: b.Receive, Send: b.Send, Short: max(0, b.Wanted-min(b.Receive, b.Send))}
	}
	if e.conn != nil {
		s.Suspect, s.RTT = e.conn.Suspect(), e.conn.RTT()
		s.Streams-- // the control stream
	}
	if lanes, ok := e.session.(interface{ Lanes() (all, busy int) }); ok {
		s.Lanes, s.Busy = lanes.Lanes()
		s.Up = s.Lanes > 0
	}
	s.RelayID, s.RelayName, s.Local = e.peer.ID.String(), e.welcome.Relay, info.Local.String()
	s.Curve = info.TLS.CurveID.String()
	for _, v := range e.welcome.Tunnels {
		if v.Code != protocol.OK {
			if s.Refused == nil {
				s.Refused = map[string]string{}
			}
			s.Refused[string(v.Name)] = v.Code.String()
		}
	}
	return s
}

func (e *end) up() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.session != nil
}

func (e *end) down(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session != nil {
		e.since = time.Now()
		e.meter.Read(e.stats())
		e.meter.Renew()
	}
	e.conn, e.session, e.welcome, e.err = nil, nil, nil, err
}

func (e *end) announce(s *protocol.TunnelStatus) {
	e.mu.Lock()
	conn := e.conn
	e.mu.Unlock()
	if conn == nil {
		return
	}
	if err := conn.Send(s); err != nil {
		e.u.cfg.Log.Debug("tunnel status not sent", "relay", e.relay, "error", err)
	}
}

// stats reads the link that stands, if one does. e.mu is held.
func (e *end) stats() link.Stats {
	if m, ok := e.session.(link.Measured); ok {
		return m.Stats()
	}
	return link.Stats{}
}

// measure follows the links until ctx ends.
func (u *Uplink) measure(ctx context.Context) {
	tick := time.NewTicker(link.MeterEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, e := range u.all() {
				e.mu.Lock()
				e.meter.Tick(e.stats(), now)
				e.mu.Unlock()
			}
		case <-ctx.Done():
			return
		}
	}
}

// judge fills in which links the relays' calls take, and why: at each address a free lane, else TCP's shared link, else
// QUIC, as package route of the relay has it. The relay sees a little more, such as a silence that is on its side alone.
func judge(all []Status) {
	silent, tcp, lanes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range all {
		if at := s.Relay + " " + s.Address; s.Up && s.Transport == "tcp" {
			tcp[at], silent[at] = !s.Suspect, s.Suspect
		} else if s.Up && s.Transport == laneTransport {
			lanes[at] = s.Lanes > s.Busy
		}
	}
	for i := range all {
		s := &all[i]
		at := s.Relay + " " + s.Address
		if s.Transport == laneTransport && silent[at] {
			s.Suspect, lanes[at] = s.Up, false
		}
		switch {
		case !s.Up:
			s.Why = "no link"
		case s.Suspect:
			s.Why = "does not answer"
		case s.Transport == laneTransport && !lanes[at]:
			s.Why = "every lane is busy"
		case s.Transport == laneTransport:
			s.Used, s.Why = true, "a lane is free"
		case s.Transport == "tcp" && lanes[at]:
			s.Why = "lanes are free"
		case s.Transport == "tcp":
			s.Used, s.Why = true, "no lane is free"
		case tcp[at] || lanes[at]:
			s.Why = "stands by while TCP lives"
		default:
			s.Used, s.Why = true, "TCP does not answer"
		}
	}
}
