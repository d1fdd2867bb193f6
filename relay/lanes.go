package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/standing"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// maxLanes bounds the lanes of one session: what an agent may ask for (64) and those that take their place meanwhile.
const maxLanes = 96

// serveLane runs one lane of an agent's from its Hello to its end. The handshake has proved who it is; proved is called
// once it has registered.
func (r *Relay) serveLane(parent context.Context, conn *tls.Conn, info link.Info, proved func()) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	h := &agentLane{state: &info.TLS, ctx: ctx, cancel: cancel, proofs: newProofLimit(), ready: make(chan struct{}),
		log: r.log.With("remote", info.Remote.String(), "transport", "lane")}
	peer, refusal := r.admit(&info.TLS, standing.Conn{End: h.end, Prove: h.prove})
	if refusal == nil {
		defer peer.Leave()
		h.peer = peer
		h.log = h.log.With("agent_id", peer.Identity().ID)
	}
	var session *lanelink.Session
	deadline := time.Now().Add(r.current.Load().file.Limits.RegistrationTimeout)
	if err := conn.SetDeadline(deadline); err != nil {
		return // it has gone already
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err := control.Admit(conn, func(hello *protocol.Hello) *protocol.Welcome {
		if refusal != nil {
			return &protocol.Welcome{Code: refusal.Code, Sentence: refusal.Sentence, RetryAfter: 10 * time.Second}
		}
		h.log = h.log.With("agent", hello.Agent)
		var welcome *protocol.Welcome
		session, welcome = r.laneSession(parent, peer.Identity().ID, hello)
		return welcome
	})
	if err != nil || !stop() {
		h.log.Warn("lane not registered", "error", errors.Join(err, context.Cause(ctx)))
		return
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	lane, err := session.Add(conn, true, info, h.heard)
	if err != nil {
		h.log.Debug("lane came too late, or beside too many", "error", err)
		return
	}
	h.lane = lane
	close(h.ready)
	proved()
	select {
	case <-lane.Done():
	case <-ctx.Done():
		lane.Close(context.Cause(ctx))
	}
}

// agentLane is the relay's end of one lane.
type agentLane struct {
	state  *tls.ConnectionState
	ctx    context.Context
	cancel context.CancelCauseFunc
	peer   *standing.Peer
	proofs *rate.Limiter
	log    *slog.Logger
	lane   *lanelink.Lane
	ready  chan struct{} // closed when lane is set
}

// end ends a lane whose identity does not hold any more.
func (h *agentLane) end(cause error) {
	e := revocation(cause)
	h.log.Warn("agent lane revoked", "security", true, "code", e.Code.String(), "reason", e.Error())
	h.cancel(e)
}

// prove shows the agent the relay's new SVID.
func (h *agentLane) prove(cert *tls.Certificate) {
	select {
	case <-h.ready:
	case <-h.ctx.Done():
		return
	}
	m, err := prove(cert, h.state)
	var note []byte
	if err == nil {
		note, err = protocol.Append(nil, m)
	}
	if err != nil {
		h.log.Warn("the relay's new SVID could not be proved", "error", err)
		return
	}
	h.lane.Say(note)
}

// heard takes the agent's newer SVID.
func (h *agentLane) heard(note []byte) {
	m, err := readNote(note)
	if err == nil {
		err = renew(h.peer, m, h.state, h.proofs)
	}
	if err != nil {
		h.log.Warn("the agent's newer SVID is refused, the old one counts", "security", true, "error", err)
	}
}

// laneSession finds or begins the session that a lane belongs to, and answers its Hello. The session ends with ctx.
func (r *Relay) laneSession(ctx context.Context, agent certs.ID, hello *protocol.Hello) (*lanelink.Session, *protocol.Welcome) {
	refuse := func(err error) (*lanelink.Session, *protocol.Welcome) {
		e := protocol.AsError(err)
		return nil, &protocol.Welcome{Code: e.Code, Sentence: e.Sentence, RetryAfter: 10 * time.Second}
	}
	file := r.current.Load().file
	l, verdicts, first, err := r.registry.AddLane(
		registry.Offer{Agent: agent, Name: hello.Agent, Epoch: hello.Epoch, Slot: hello.Slot, Tunnels: hello.Tunnels, Tokens: hello.Tokens},
		func() link.Session {
			return lanelink.New(lanelink.Config{Config: r.linkConfig(file), MaxLanes: maxLanes})
		})
	if err != nil {
		return refuse(err)
	}
	session := l.Session.(*lanelink.Session)
	if first {
		r.log.Info("agent lanes up", "agent_id", agent, "agent", hello.Agent)
		r.running.Go(func() {
			select {
			case <-session.Done():
			case <-ctx.Done():
			}
			r.registry.Remove(l)
			session.Close(context.Cause(ctx))
			r.log.Info("agent lanes ended", "agent_id", agent, "agent", hello.Agent, "reason", session.Err())
		})
	}
	if all, _ := session.Lanes(); all >= maxLanes {
		return refuse(protocol.Errorf(protocol.SessionLimit, "at most %d lanes of one agent are admitted", maxLanes))
	}
	return session, &protocol.Welcome{Relay: r.name, Tunnels: verdicts, MaxStreams: 1, GrantKey: r.grantKey()}
}
