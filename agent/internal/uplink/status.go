package uplink

import (
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// Status is one link as `fairlead-agent status` shows it.
type Status struct {
	Relay     string            `json:"relay"`
	Address   string            `json:"address"`
	Transport string            `json:"transport"`
	Up        bool              `json:"up"`
	Suspect   bool              `json:"suspect"`
	Since     time.Time         `json:"since"`
	RelayID   string            `json:"relay_id,omitempty"`
	RelayName string            `json:"relay_name,omitempty"`
	Local     string            `json:"local,omitempty"`
	Curve     string            `json:"curve,omitempty"` // key agreement of the TLS handshake
	RTT       time.Duration     `json:"rtt_ns,omitempty"`
	Streams   int               `json:"streams"`
	Received  uint64            `json:"received_bytes"`
	Refused   map[string]string `json:"refused,omitempty"` // tunnel to code
	LastError string            `json:"last_error,omitempty"`
}

func (e *end) snapshot() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Relay: e.relay, Address: e.address, Transport: e.transport, Since: e.since}
	if e.err != nil {
		s.LastError = e.err.Error()
	}
	if e.conn == nil {
		return s
	}
	info := e.session.Info()
	s.Up, s.Suspect, s.RTT = true, e.conn.Suspect(), e.conn.RTT()
	s.RelayID, s.RelayName, s.Local = e.peer.ID.String(), e.welcome.Relay, info.Local.String()
	s.Curve = info.TLS.CurveID.String()
	s.Streams, s.Received = e.session.Streams()-1, e.session.Received()
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
	return e.conn != nil
}

func (e *end) down(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil {
		e.since = time.Now()
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
