package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// serveAgent runs one agent's link from its Hello to its end. The handshake has proved who it is; proved is called
// once it has registered.
func (r *Relay) serveAgent(ctx context.Context, s link.Session, proved func()) {
	info := s.Info()
	log := r.log.With("remote", info.Remote.String(), "transport", info.Transport)
	// The handshake verified this chain a moment ago; asking again says who it was and until when.
	agent, err := certs.Verify(r.source, info.TLS.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
	if err != nil {
		log.Warn("agent refused", "error", err)
		s.Close(err)
		return
	}
	log = log.With("agent_id", agent.ID)
	h := &agentLink{relay: r, session: s, agent: agent, log: log}
	conn, _, err := control.Accept(ctx, s, h.register, control.Config{HelloTimeout: r.current.Load().file.Limits.RegistrationTimeout})
	if h.link != nil {
		defer r.registry.Remove(h.link)
	}
	if err != nil {
		log.Warn("agent not registered", "error", err)
		return
	}
	proved()
	h.conn.Store(conn)
	defer context.AfterFunc(r.stops, func() {
		// Where it cannot be said, the link is going anyway.
		_ = conn.Send(&protocol.Drain{Code: protocol.Draining, Sentence: "relay stops", Deadline: r.current.Load().file.DrainTimeout})
	})()
	log.Info("agent link up")
	ctx, cancel := context.WithDeadlineCause(ctx, agent.NotAfter,
		protocol.Errorf(protocol.IdentityExpired, "the agent's SVID expired at %s", agent.NotAfter.UTC().Format(time.RFC3339)))
	defer cancel()
	uninvited := make(chan struct{})
	go func() {
		defer close(uninvited)
		refuseStreams(ctx, s)
	}()
	err = conn.Run(ctx, control.Handler{Status: h.link.SetStatus, Drain: h.drain, Suspect: h.suspect})
	<-uninvited
	log.Info("agent link ended", "reason", err)
}

// agentLink is the relay's end of one link.
type agentLink struct {
	relay   *Relay
	session link.Session
	agent   certs.Identity
	log     *slog.Logger
	link    *registry.Link // set by register
	drains  bool           // touched by the reader of the control stream alone
	conn    atomic.Pointer[control.Conn]
}

// register answers Hello: with what the registry says.
func (h *agentLink) register(hello *protocol.Hello) *protocol.Welcome {
	h.log = h.log.With("agent", hello.Agent)
	l, verdicts, err := h.relay.registry.Add(registry.Offer{
		Session: h.session, Agent: h.agent.ID, Name: hello.Agent, Epoch: hello.Epoch, Slot: hello.Slot, Tunnels: hello.Tunnels,
		Suspect: func() bool { c := h.conn.Load(); return c != nil && c.Suspect() },
		RTT: func() time.Duration {
			if c := h.conn.Load(); c != nil {
				return c.RTT()
			}
			return 0
		},
	})
	if err != nil {
		e := protocol.AsError(err)
		return &protocol.Welcome{Code: e.Code, Sentence: e.Sentence, RetryAfter: 10 * time.Second}
	}
	h.link = l
	return &protocol.Welcome{Relay: h.relay.name, Tunnels: verdicts,
		MaxStreams: uint32(h.relay.current.Load().file.Limits.StreamsPerSession)} //nolint:gosec // at most 1,000,000, config says
}

// drain takes the link out of the candidates; what runs on it goes on until the agent ends it.
func (h *agentLink) drain(d *protocol.Drain) {
	if h.drains {
		return // said once is enough, also for the log
	}
	h.drains = true
	h.log.Info("agent link drains", "code", d.Code, "reason", d.Sentence, "deadline", d.Deadline)
	h.relay.registry.Remove(h.link)
}

func (h *agentLink) suspect(suspect bool) {
	if suspect {
		h.log.Warn("agent link suspect")
	}
}

// refuseStreams resets what an agent opens: calls come from the relay alone.
func refuseStreams(ctx context.Context, s link.Session) {
	for {
		st, err := s.Accept(ctx)
		if errors.Is(err, link.ErrLost) || ctx.Err() != nil {
			return
		}
		if err == nil {
			st.Reset(uint16(protocol.BadRequest))
		}
	}
}
