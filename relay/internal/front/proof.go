package front

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync"

	"github.com/fairlead/fairlead/relay/internal/authn"
)

// Proof is what a caller's connection has shown.
type Proof struct {
	Peer   *authn.Peer
	Source netip.AddrPort
	Proved func() // the connection no longer counts as a stranger's; may be called often
}

type proofKey struct{}

// Of returns the proof of the connection that a request's context belongs to. It panics where there is none: the
// handler is not behind a Front.
func Of(ctx context.Context) Proof { return ctx.Value(proofKey{}).(Proof) }

func withProof(ctx context.Context, chain []*x509.Certificate, source netip.AddrPort, release func(bool)) context.Context {
	return context.WithValue(ctx, proofKey{}, Proof{Peer: authn.NewPeer(chain), Source: source,
		Proved: sync.OnceFunc(func() { release(true) })})
}
