package dispatch

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/protocol"
)

// tunnel is one tunnel as it is served. It does not change; a call keeps the one that it began with.
type tunnel struct {
	cfg     config.Tunnel
	rules   *guard.Rules
	backend *backend.Backend
}

// table is the tunnels of one load of the file.
type table struct {
	byName map[protocol.TunnelName]*tunnel
}

func (t *table) find(name protocol.TunnelName) (*tunnel, bool) {
	if t == nil {
		return nil, false
	}
	found, ok := t.byName[name]
	return found, ok
}

// SetTunnels replaces what is served, whole or (with an error) not at all. Calls that run and would be let through now are not
// disturbed; the others end. A tunnel that did not change keeps its connections. One with TLS files is always made anew, since the files may have
// changed.
func (d *Dispatcher) SetTunnels(tunnels []config.Tunnel) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.tunnels.Load()
	next := &table{byName: make(map[protocol.TunnelName]*tunnel, len(tunnels))}
	var errs []error
	for _, cfg := range tunnels {
		if t, ok := old.find(cfg.Name); ok && !cfg.Backend.TLS() && reflect.DeepEqual(t.cfg, cfg) {
			next.byName[cfg.Name] = t
			continue
		}
		b, err := backend.New(backend.Config{
			Address: cfg.Backend, TLS: cfg.TLS, DialTimeout: cfg.Timeouts.Dial, HeaderTimeout: cfg.Timeouts.Header,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("tunnel %s: %w", cfg.Name, err))
			continue
		}
		next.byName[cfg.Name] = &tunnel{cfg: cfg, rules: cfg.Rules(), backend: b}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	d.tunnels.Store(next)
	if old == nil {
		return nil
	}
	for c := range d.live.Range {
		c.(*call).judge(next)
	}
	for name, t := range old.byName {
		if next.byName[name] != t {
			t.backend.Close()
		}
	}
	return nil
}
