package gateway

import (
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

const (
	// grantFor is how long a grant is given out: less than it holds, so that it is not used up on its way.
	grantFor = grant.MaxLife / 2
	// grantsKept bounds each of the two generations of grants that are remembered.
	grantsKept = 4_096
)

// Signer signs grants; *grant.Signer is one.
type Signer interface {
	Sign(g *grant.Grant, now time.Time) ([]byte, error)
}

// grants remembers what was signed for which principal at which tunnel: a call that was decided pays for no signature.
type grants struct {
	signer Signer

	// mu guards: the generations; when the young one is full it becomes the old one, which is dropped.
	mu         sync.RWMutex
	young, old map[granted]signed
}

type granted struct {
	tunnel    protocol.TunnelName
	principal authn.Principal
}

type signed struct {
	grant []byte // nobody changes it
	until time.Time
}

func newGrants(s Signer) *grants { return &grants{signer: s, young: make(map[granted]signed)} }

// of returns the grant for a principal that was let through to the tunnel. The caller does not change it.
func (g *grants) of(tunnel protocol.TunnelName, p authn.Principal, now time.Time) ([]byte, error) {
	key := granted{tunnel, p}
	g.mu.RLock()
	s, ok := g.young[key]
	if !ok {
		s, ok = g.old[key]
	}
	g.mu.RUnlock()
	if ok && now.Before(s.until) {
		return s.grant, nil
	}
	b, err := g.signer.Sign(p.Grant(tunnel), now)
	if err != nil {
		return nil, protocol.Errorf(protocol.HeadersTooLarge, "the caller's identity and token are too long to be passed on").WithCause(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.young) >= grantsKept {
		g.old, g.young = g.young, make(map[granted]signed)
	}
	g.young[key] = signed{b, now.Add(grantFor)}
	return b, nil
}
