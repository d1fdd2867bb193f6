package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/standing"
	"github.com/fairlead/fairlead/protocol"
)

// newKeeper keeps judging relays: a connection stands on what its relay has last proved.
func (u *Uplink) newKeeper() *standing.Keeper {
	return standing.New(standing.Config{
		Source: u.cfg.Source,
		Verify: func(chain []*x509.Certificate) (certs.Identity, error) {
			return certs.Verify(u.cfg.Source, chain, x509.ExtKeyUsageServerAuth, time.Now())
		},
		Allow: u.checkBans,
	})
}

func (u *Uplink) checkBans(proved []certs.Identity) error {
	if u.cfg.Banned == nil {
		return nil
	}
	for _, id := range proved {
		if b := u.cfg.Banned(id); b != nil {
			return protocol.Errorf(protocol.IdentityBanned, "the relay's identity is banned: %s, since %s", b.Target, b.Since.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// relayEnd is what a connection to a relay knows of the relay's identity, and shows of the agent's.
type relayEnd struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	state  *tls.ConnectionState
	peer   *standing.Peer
	proofs *rate.Limiter
	log    *slog.Logger
	ready  chan struct{}               // closed by whoever has set say
	say    func(*protocol.Proof) error // shows the relay the agent's newer SVID
}

// hold takes up a connection whose handshake has just shown who the relay is. It ends by the context that it returns: with
// release, or with the relay's identity. The caller calls release when the connection has ended, and begin once it can
// speak.
func (u *Uplink) hold(ctx context.Context, state *tls.ConnectionState, log *slog.Logger) (*relayEnd, error) {
	r := &relayEnd{state: state, log: log, ready: make(chan struct{}), proofs: rate.NewLimiter(rate.Every(200*time.Millisecond), 8)}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	var err error
	r.peer, err = u.keeper.Add(state.PeerCertificates, standing.Conn{
		End: func(cause error) {
			e := revocation(cause)
			log.Warn("the relay's identity does not hold any more", "security", true, "code", e.Code.String(), "reason", e.Error())
			r.cancel(e)
		},
		Prove: r.prove,
	})
	if err != nil {
		r.cancel(err)
		return nil, err
	}
	return r, nil
}

func (r *relayEnd) release() {
	r.peer.Leave()
	r.cancel(nil)
}

// begin says how the connection speaks.
func (r *relayEnd) begin(say func(*protocol.Proof) error) {
	r.say = say
	close(r.ready)
}

func (r *relayEnd) prove(cert *tls.Certificate) {
	select {
	case <-r.ready:
	case <-r.ctx.Done():
		return
	}
	p, err := certs.Prove(cert, r.state, x509.ExtKeyUsageClientAuth)
	if err == nil {
		err = r.say(&protocol.Proof{Chain: p.Chain, Signature: p.Signature})
	}
	if err != nil && r.ctx.Err() == nil {
		r.log.Warn("the new SVID could not be proved", "error", err)
	}
}

var errTooManyProofs = errors.New("too many proofs of a newer identity")

// renew takes the relay's proof of a newer SVID.
func (r *relayEnd) renew(m *protocol.Proof) {
	err := errTooManyProofs
	if r.proofs.Allow() {
		var chain []*x509.Certificate
		if chain, err = (&certs.Proof{Chain: m.Chain, Signature: m.Signature}).Check(r.state, x509.ExtKeyUsageServerAuth); err == nil {
			err = r.peer.Renew(chain)
		}
	}
	if err != nil {
		r.log.Warn("the relay's newer SVID is refused, the old one counts", "security", true, "error", err)
	}
}

// heard reads what a lane's note says.
func (r *relayEnd) heard(note []byte) {
	m, err := protocol.ReadControl(bytes.NewReader(note))
	proof, ok := m.(*protocol.Proof)
	if err == nil && !ok {
		err = fmt.Errorf("%w: expected Proof, got %T", protocol.ErrMalformed, m)
	}
	if err != nil {
		r.log.Warn("a relay's note is refused", "error", err)
		return
	}
	r.renew(proof)
}

// revocation says in a code why a relay's identity does not hold any more.
func revocation(cause error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](cause); ok {
		return e
	}
	invalid, ok := errors.AsType[*certs.VerifyError](cause)
	if errors.Is(cause, standing.ErrExpired) || ok && invalid.Reason == certs.ReasonExpired {
		return protocol.Errorf(protocol.IdentityExpired, "the relay's identity has expired, and no newer one was proved").WithCause(cause)
	}
	return protocol.Errorf(protocol.IdentityRevoked, "the relay's identity is not trusted any more").WithCause(cause)
}
