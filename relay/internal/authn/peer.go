package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// refusalHolds is how long a refused chain is refused without another look, so that requests on one connection cannot
// buy a signature check each. It is short because a refusal may be about the clock.
const refusalHolds = 5 * time.Second

// A Peer is the proof of one caller connection, judged when it is asked for and again when the judgement may have
// changed. It is safe for concurrent use by the requests of the connection. A nil Peer has shown nothing.
type Peer struct {
	chain []*x509.Certificate
	last  atomic.Pointer[verdict]
}

// verdict is what one source said of the chain at one generation.
type verdict struct {
	source     certs.Source
	generation uint64
	until      time.Time
	identity   certs.Identity
	err        error
}

// NewPeer keeps the chain, leaf first, as the handshake delivered it; nobody changes it any more. The handshake has
// proved that the peer holds the leaf's key, and nothing else. An empty chain makes a Peer that has shown nothing.
func NewPeer(chain []*x509.Certificate) *Peer { return &Peer{chain: chain} }

// Shown reports whether the peer has shown any certificate.
func (p *Peer) Shown() bool { return p != nil && len(p.chain) > 0 }

// Identity verifies the chain as a client's, against src. What it returns is remembered until its NotAfter, and while
// src, which must be comparable, is the same one and of the same generation. The error is a *certs.VerifyError.
func (p *Peer) Identity(src certs.Source, now time.Time) (certs.Identity, error) {
	if !p.Shown() {
		return certs.Verify(src, nil, x509.ExtKeyUsageClientAuth, now)
	}
	generation := src.Generation() // before the bundle is read: a verdict may be older than it says, never newer
	if v := p.last.Load(); v != nil && v.source == src && v.generation == generation && !now.After(v.until) {
		return v.identity, v.err
	}
	v := &verdict{source: src, generation: generation}
	v.identity, v.err = certs.Verify(src, p.chain, x509.ExtKeyUsageClientAuth, now)
	v.until = v.identity.NotAfter
	if v.err != nil {
		v.until = now.Add(refusalHolds)
	}
	p.last.Store(v)
	return v.identity, v.err
}

// Thumbprint is the SHA-256 of the leaf as it was shown, which RFC 8705 binds tokens to; false where there is none.
func (p *Peer) Thumbprint() ([sha256.Size]byte, bool) {
	if !p.Shown() {
		return [sha256.Size]byte{}, false
	}
	return sha256.Sum256(p.chain[0].Raw), true
}
