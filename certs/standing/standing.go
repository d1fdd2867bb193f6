// Package standing keeps judging the identities that connections were made with: one that expires without a newer
// proof, whose bundle has gone, that is banned or that the configuration has dropped ends its connection within
// moments. It also tells connections when the process's own SVID has changed, so that they prove it anew.
//
// It touches no connection itself, and verifies no proof: certs.Proof does.
package standing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// ErrExpired is wrapped by what End is called with at an identity's notAfter.
var ErrExpired = errors.New("the identity has expired, and no newer one was proved")

// rememberedProofs bounds a connection's history. Beyond it the oldest is forgotten, but never the first: at a renewal a
// day it is a year.
const rememberedProofs = 400

// Config makes a Keeper.
type Config struct {
	Source certs.Source // required: its Generation says when everybody is judged anew, its SVID is what is proved
	// Verify judges a chain: certs.Verify as a rule. A zero NotAfter never expires. Required.
	Verify func(chain []*x509.Certificate) (certs.Identity, error)
	// Allow adds what certificates do not say, bans and the configuration. It gets every identity that was proved on the
	// connection, the newest last: a ban of an old one's serial number also meets who has renewed since. Nil allows.
	Allow func(proved []certs.Identity) error
	Every time.Duration // between two looks; default 500 ms
}

// Keeper follows connections. Its methods are safe for concurrent use.
type Keeper struct {
	cfg Config

	judging sync.Mutex // one round at a time

	// As New has seen them: what changes before Run begins counts. Touched by Run alone.
	generation uint64
	own        *x509.Certificate

	// mu guards:
	mu    sync.Mutex
	peers map[*Peer]struct{}
}

// New makes a Keeper without connections. Run must be called.
func New(cfg Config) *Keeper {
	if cfg.Every == 0 {
		cfg.Every = 500 * time.Millisecond
	}
	k := &Keeper{cfg: cfg, generation: cfg.Source.Generation(), peers: make(map[*Peer]struct{})}
	k.own = k.leaf()
	return k
}

// Conn is what a Keeper can do to a connection. Its functions are called from goroutines of the Keeper's, must be safe for
// concurrent use and must not block, except Prove.
type Conn struct {
	// End ends the connection; it is called once at most.
	End func(cause error)
	// Prove shows the process's new SVID to the peer. It may block. Nil: this connection needs none.
	Prove func(*tls.Certificate)
}

// Peer is the identity at the other end of one connection. Its methods are safe for concurrent use.
type Peer struct {
	keeper *Keeper
	conn   Conn

	// mu guards:
	mu     sync.Mutex
	chain  []*x509.Certificate
	proved []certs.Identity
	shown  *x509.Certificate // of the process's own, what Prove was called with last
	ended  bool
}

// Add takes up a connection whose peer has proved in its handshake that it holds the key of chain's leaf. It fails where
// the identity may not stay. The caller must call Leave when the connection has ended.
func (k *Keeper) Add(chain []*x509.Certificate, conn Conn) (*Peer, error) {
	p := &Peer{keeper: k, conn: conn}
	k.mu.Lock()
	k.peers[p] = struct{}{} // first, so that a round that begins meanwhile sees it
	k.mu.Unlock()
	if err := p.Renew(chain); err != nil {
		p.Leave()
		return nil, err
	}
	return p, nil
}

// Len counts the connections.
func (k *Keeper) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.peers)
}

// Identity is the newest that was proved.
func (p *Peer) Identity() certs.Identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proved[len(p.proved)-1]
}

// Leave forgets the connection. Later calls do nothing.
func (p *Peer) Leave() {
	p.keeper.mu.Lock()
	delete(p.keeper.peers, p)
	p.keeper.mu.Unlock()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
}

// Renew takes a newer chain, whose leaf's key the peer has proved to hold. It must name the same SPIFFE ID, verify, and be
// allowed; else the old one stays what the connection stands on.
func (p *Peer) Renew(chain []*x509.Certificate) error {
	id, err := p.keeper.cfg.Verify(chain)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	proved := p.proved
	if len(proved) > 0 && id.ID != proved[0].ID {
		return fmt.Errorf("expected a newer SVID of %s, got one of %s", proved[0].ID, id.ID)
	}
	if len(proved) > 0 && proved[len(proved)-1].Serial == id.Serial {
		proved = proved[: len(proved)-1 : len(proved)-1]
	}
	if len(proved) == rememberedProofs {
		proved = append(proved[:1:1], proved[2:]...)
	}
	proved = append(slices.Clip(proved), id)
	if allow := p.keeper.cfg.Allow; allow != nil {
		if err := allow(proved); err != nil {
			return err
		}
	}
	p.chain, p.proved = chain, proved
	return nil
}

// judge looks again at what the connection stands on, and ends it where that does not hold any more.
func (p *Peer) judge() {
	p.mu.Lock()
	chain := p.chain
	p.mu.Unlock()
	if chain == nil {
		return // Add is at it
	}
	if err := p.Renew(chain); err != nil {
		p.mu.Lock()
		newer := len(chain) > 0 && p.chain[0] != chain[0] // proved while the old one was looked at
		p.mu.Unlock()
		if newer {
			p.judge()
			return
		}
		p.end(err)
	}
}

func (p *Peer) expire(now time.Time) {
	p.mu.Lock()
	if len(p.proved) == 0 {
		p.mu.Unlock()
		return
	}
	last := p.proved[len(p.proved)-1]
	p.mu.Unlock()
	if !last.NotAfter.IsZero() && now.After(last.NotAfter) {
		p.end(fmt.Errorf("%w: %s was valid until %s", ErrExpired, last.ID, last.NotAfter.UTC().Format(time.RFC3339)))
	}
}

func (p *Peer) end(cause error) {
	p.mu.Lock()
	ended := p.ended
	p.ended = true
	p.mu.Unlock()
	if !ended {
		p.conn.End(cause)
	}
}

// Judge looks at every connection now: after a ban, or when the configuration has changed. Every End that follows from it
// has been called when it returns.
func (k *Keeper) Judge() {
	k.judging.Lock()
	defer k.judging.Unlock()
	for _, p := range k.all() {
		p.judge()
	}
}

func (k *Keeper) all() []*Peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]*Peer, 0, len(k.peers))
	for p := range k.peers {
		all = append(all, p)
	}
	return all
}

// Run judges everybody when the Source has changed, ends who has expired, and has a new SVID of the process's own proved,
// until ctx ends; it returns once no Prove runs any more.
func (k *Keeper) Run(ctx context.Context) {
	var proving sync.WaitGroup
	defer proving.Wait()
	tick := time.NewTicker(k.cfg.Every)
	defer tick.Stop()
	var changed time.Time // of own
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := k.cfg.Source.Generation(); now != k.generation {
			k.generation = now
			k.Judge()
			if cert, err := k.cfg.Source.Certificate(); err == nil && !k.own.Equal(cert.Leaf) {
				k.own, changed = cert.Leaf, time.Now()
			}
		}
		if time.Since(changed) < lateProofs {
			k.prove(&proving)
		}
		for _, p := range k.all() {
			p.expire(time.Now())
		}
	}
}

func (k *Keeper) leaf() *x509.Certificate {
	cert, err := k.cfg.Source.Certificate()
	if err != nil {
		return nil
	}
	return cert.Leaf
}

const (
	// proversAtOnce bounds the connections that are shown a new SVID side by side.
	proversAtOnce = 16
	// lateProofs is for how long after a change of the process's own SVID connections may come up whose handshake still
	// showed the old one.
	lateProofs = time.Minute
)

// prove has the process's SVID shown on every connection that it was not shown on.
func (k *Keeper) prove(proving *sync.WaitGroup) {
	cert, err := k.cfg.Source.Certificate()
	if err != nil {
		return // the source says so itself
	}
	var todo []*Peer
	for _, p := range k.all() {
		if p.conn.Prove != nil && p.show(cert.Leaf) {
			todo = append(todo, p)
		}
	}
	if len(todo) == 0 {
		return
	}
	peers := make(chan *Peer, len(todo))
	for _, p := range todo {
		peers <- p
	}
	close(peers)
	for range min(proversAtOnce, len(todo)) {
		proving.Go(func() {
			for p := range peers {
				p.conn.Prove(cert)
			}
		})
	}
}

// show reports whether leaf is still to be shown, and notes that it is being done.
func (p *Peer) show(leaf *x509.Certificate) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	todo := !p.shown.Equal(leaf)
	p.shown = leaf
	return todo
}
