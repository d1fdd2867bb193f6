package gateway

import (
	"sync"
	"sync/atomic"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// counts holds how many calls of each tunnel run. A tunnel keeps its count over reloads, by its name; the names are
// the configuration's, so they are few.
type counts struct{ byName sync.Map } // of protocol.TunnelName to *atomic.Int64

// enter counts a call in, unless the tunnel has as many as it may have.
func (n *counts) enter(t *tunnel.Tunnel) bool {
	running := n.of(t.Name)
	if now := running.Add(1); t.Concurrent > 0 && now > int64(t.Concurrent) {
		running.Add(-1)
		return false
	}
	return true
}

func (n *counts) leave(t *tunnel.Tunnel) { n.of(t.Name).Add(-1) }

func (n *counts) of(name protocol.TunnelName) *atomic.Int64 {
	if v, ok := n.byName.Load(name); ok {
		return v.(*atomic.Int64)
	}
	v, _ := n.byName.LoadOrStore(name, new(atomic.Int64))
	return v.(*atomic.Int64)
}
