package relay

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/standing"
	"github.com/fairlead/fairlead/protocol"
)

// newLinks keeps judging agents: a link stands on what its agent has last proved.
func (r *Relay) newLinks() *standing.Keeper {
	return standing.New(standing.Config{
		Source: r.source,
		Verify: func(chain []*x509.Certificate) (certs.Identity, error) {
			return certs.Verify(r.source, chain, x509.ExtKeyUsageClientAuth, time.Now())
		},
		Allow: func(proved []certs.Identity) error {
			if err := r.checkBans(proved); err != nil {
				return err
			}
			if err := r.authorizeLink(proved[0].ID); err != nil {
				return protocol.Errorf(protocol.IdentityRevoked, "no tunnel names this agent any more").WithCause(err)
			}
			return nil
		},
	})
}

// newCallers keeps judging the connections of callers for as long as calls run on them, beside the gate, which judges each
// call as it begins. A call may outlive its caller's SVID, but neither a ban nor its trust domain.
func (r *Relay) newCallers() *standing.Keeper {
	return standing.New(standing.Config{
		Source: r.source,
		Verify: func(chain []*x509.Certificate) (certs.Identity, error) {
			id, err := certs.LeafID(chain[0])
			if err == nil {
				_, err = r.source.Roots(id.TrustDomain())
			}
			return certs.Identity{ID: id, Serial: fmt.Sprintf("%x", chain[0].SerialNumber)}, err
		},
		Allow: r.checkBans,
	})
}

func (r *Relay) checkBans(proved []certs.Identity) error {
	for _, id := range proved {
		if err := r.bans.Check(id); err != nil {
			return err
		}
	}
	return nil
}

// follow takes up a caller's connection; one whose SVID does not verify is the gate's to refuse.
func (r *Relay) follow(chain []*x509.Certificate, remote string, end func()) (left func()) {
	if _, err := certs.Verify(r.source, chain, x509.ExtKeyUsageClientAuth, time.Now()); err != nil {
		return func() {}
	}
	peer, err := r.callers.Add(chain, standing.Conn{End: func(cause error) {
		e := revocation(cause)
		r.log.Warn("caller's connection cut", "security", true, "remote", remote, "code", e.Code.String(), "reason", e.Error())
		end()
	}})
	if err != nil {
		return func() {}
	}
	return peer.Leave
}

// admit judges the agent at the other end of a connection whose handshake has just proved it; a refusal is what its Hello
// is answered with. The caller calls the peer's Leave when the connection has ended.
func (r *Relay) admit(state *tls.ConnectionState, conn standing.Conn) (*standing.Peer, *protocol.Error) {
	if r.current.Load().file.RequirePQ && !certs.PostQuantum(state.CurveID) {
		return nil, protocol.Errorf(protocol.Denied, "a post-quantum key agreement such as %s is expected (require_pq), this connection has %s",
			tls.X25519MLKEM768, state.CurveID)
	}
	peer, err := r.links.Add(state.PeerCertificates, conn)
	if err != nil {
		return nil, revocation(err)
	}
	return peer, nil
}

// revocation is what an agent is told when its identity does not hold any more.
func revocation(cause error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](cause); ok {
		return e
	}
	invalid, ok := errors.AsType[*certs.VerifyError](cause)
	if errors.Is(cause, standing.ErrExpired) || ok && invalid.Reason == certs.ReasonExpired {
		return protocol.Errorf(protocol.IdentityExpired, "the identity has expired, and no newer one was proved").WithCause(cause)
	}
	return protocol.Errorf(protocol.IdentityRevoked, "the identity is not trusted any more").WithCause(cause)
}

// newProofLimit bounds the proofs that one connection may have checked: each costs a signature or two.
func newProofLimit() *rate.Limiter { return rate.NewLimiter(rate.Every(200*time.Millisecond), 8) }

var errTooManyProofs = errors.New("too many proofs of a newer identity")

// renew takes a peer's proof of a newer SVID.
func renew(peer *standing.Peer, m *protocol.Proof, state *tls.ConnectionState, limit *rate.Limiter) error {
	if !limit.Allow() {
		return errTooManyProofs
	}
	chain, err := (&certs.Proof{Chain: m.Chain, Signature: m.Signature}).Check(state, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return err
	}
	return peer.Renew(chain)
}

// prove makes the relay's own proof for a connection.
func prove(cert *tls.Certificate, state *tls.ConnectionState) (*protocol.Proof, error) {
	p, err := certs.Prove(cert, state, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	return &protocol.Proof{Chain: p.Chain, Signature: p.Signature}, nil
}

// readNote reads what a lane's note says.
func readNote(note []byte) (*protocol.Proof, error) {
	m, err := protocol.ReadControl(bytes.NewReader(note))
	if err != nil {
		return nil, err
	}
	proof, ok := m.(*protocol.Proof)
	if !ok {
		return nil, fmt.Errorf("%w: expected Proof, got %T", protocol.ErrMalformed, m)
	}
	return proof, nil
}
