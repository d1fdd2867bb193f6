package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/certs/standing"
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &agentLink{relay: r, session: s, state: &info.TLS, cancel: cancel, proofs: newProofLimit(), registered: make(chan struct{}), ctx: ctx}
	h.agent, _ = certs.LeafID(info.TLS.PeerCertificates[0]) // which the handshake has verified
	if h.peer, h.refusal = r.admit(&info.TLS, standing.Conn{End: h.end, Prove: h.prove}); h.refusal == nil {
		defer h.peer.Leave()
	}
	log = log.With("agent_id", h.agent)
	h.log = log
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
	close(h.registered)
	r.linked.Store(h, nil)
	defer r.linked.Delete(h)
	defer context.AfterFunc(r.stops, func() {
		// Where it cannot be said, the link is going anyway.
		_ = conn.Send(&protocol.Drain{Code: protocol.Draining, Sentence: "relay stops", Deadline: r.current.Load().file.DrainTimeout})
	})()
	log.Info("agent link up")
	r.noteAgent(h.agent.String(), info.Remote.String(), nil)
	uninvited := make(chan struct{})
	go func() {
		defer close(uninvited)
		refuseStreams(ctx, s)
	}()
	err = conn.Run(ctx, control.Handler{Status: h.link.SetStatus, Drain: h.drain, Proof: h.proof, Ask: h.ask, Suspect: h.suspect})
	cancel(err)
	<-uninvited
	if errors.Is(err, control.ErrDead) && info.Transport == "tcp" {
		r.registry.Doubt(h.link, err)
	}
	log.Info("agent link ended", "reason", err)
}

// agentLink is the relay's end of one link.
type agentLink struct {
	relay   *Relay
	session link.Session
	state   *tls.ConnectionState
	ctx     context.Context
	cancel  context.CancelCauseFunc
	agent   certs.ID
	peer    *standing.Peer  // nil where refusal is set
	refusal *protocol.Error // what Hello is answered with
	proofs  *rate.Limiter
	log     *slog.Logger
	link    *registry.Link // set by register
	drains  bool           // touched by the reader of the control stream alone
	conn    atomic.Pointer[control.Conn]
	asking  atomic.Bool

	registered chan struct{} // closed when conn is set
}

// register answers Hello: with what the registry says.
func (h *agentLink) register(hello *protocol.Hello) *protocol.Welcome {
	h.log = h.log.With("agent", hello.Agent)
	if e := h.refusal; e != nil {
		h.log.Warn("agent refused", "security", true, "code", e.Code.String(), "reason", e.Error())
		h.relay.noteAgent(h.agent.String(), h.session.Info().Remote.String(), e)
		return &protocol.Welcome{Code: e.Code, Sentence: e.Sentence, RetryAfter: 10 * time.Second}
	}
	l, verdicts, err := h.relay.registry.Add(registry.Offer{
		Session: h.session, Agent: h.agent, Name: hello.Agent, Epoch: hello.Epoch, Slot: hello.Slot, Tunnels: hello.Tunnels, Tokens: hello.Tokens,
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
	for _, v := range verdicts {
		if v.Code != protocol.OK { // R02, R03
			h.log.Warn("agent may not serve a tunnel", "security", true, "tunnel", v.Name, "code", v.Code.String())
			h.relay.note(&audit.Record{Kind: audit.KindAgent, Peer: h.agent.String(), Source: h.session.Info().Remote.String(), Tunnel: string(v.Name),
				Decision: audit.Deny, Code: v.Code.String(), Reason: v.Sentence})
		}
	}
	return &protocol.Welcome{Relay: h.relay.name, Tunnels: verdicts, GrantKey: h.relay.grantKey(),
		MaxStreams: uint32(h.relay.current.Load().file.Limits.StreamsPerSession)} //nolint:gosec // at most 1,000,000, config says
}

// grantKey is what agents check the relay's grants by. Nil where it cannot be signed: then an agent's link has no use, and
// the agent dials again.
func (r *Relay) grantKey() *protocol.GrantKey {
	d, err := r.grants.Delegation()
	if err != nil {
		r.log.Error("the grant key could not be signed", "error", err)
		return nil
	}
	return &protocol.GrantKey{Chain: d.Chain, Key: d.Key, Signature: d.Signature}
}

// goodbye is how long an agent has to read why its link ends.
const goodbye = 200 * time.Millisecond

// end ends a link whose identity does not hold any more.
func (h *agentLink) end(cause error) {
	e := revocation(cause)
	h.log.Warn("agent link revoked", "security", true, "code", e.Code.String(), "reason", e.Error())
	h.relay.noteAgent(h.agent.String(), h.session.Info().Remote.String(), e)
	conn := h.conn.Load()
	if conn == nil {
		h.cancel(e)
		return
	}
	h.relay.registry.Remove(h.link) // no call begins on it
	time.AfterFunc(goodbye, func() { h.cancel(e) })
	h.relay.running.Go(func() {
		_ = conn.Send(&protocol.Drain{Code: e.Code, Sentence: e.Sentence}) // where it cannot be said, the link ends all the same
	})
}

// prove shows the agent the relay's new SVID.
func (h *agentLink) prove(cert *tls.Certificate) {
	select {
	case <-h.registered:
	case <-h.ctx.Done():
		return
	}
	m, err := prove(cert, h.state)
	if err == nil {
		err = h.conn.Load().Send(m)
	}
	if key := h.relay.grantKey(); err == nil && key != nil {
		err = h.conn.Load().Send(key)
	}
	if err != nil && h.ctx.Err() == nil {
		h.log.Warn("the relay's new SVID could not be proved", "error", err)
	}
}

// proof takes the agent's newer SVID.
func (h *agentLink) proof(m *protocol.Proof) {
	if err := renew(h.peer, m, h.state, h.proofs); err != nil {
		h.log.Warn("the agent's newer SVID is refused, the old one counts", "security", true, "error", err)
		return
	}
	h.log.Debug("agent re-authenticated", "not_after", h.peer.Identity().NotAfter)
}

// ask carries an agent's request to the authority, one at a time.
func (h *agentLink) ask(m *protocol.Ask) {
	if !h.asking.CompareAndSwap(false, true) {
		h.answer(&protocol.Answer{Number: m.Number, Code: protocol.RateLimited, Sentence: "a request of this link is under way"})
		return
	}
	h.relay.running.Go(func() {
		defer h.asking.Store(false)
		h.answer(h.relay.carrier.Answer(h.ctx, m))
	})
}

func (h *agentLink) answer(m *protocol.Answer) {
	if err := h.conn.Load().Send(m); err != nil && h.ctx.Err() == nil {
		h.log.Warn("an answer of the authority's could not be sent", "error", err)
	}
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
	h.relay.registry.Judge(h.link)
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
