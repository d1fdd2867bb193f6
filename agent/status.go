package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/control"
	"github.com/fairlead/fairlead/agent/internal/uplink"
)

// Link is one link to one address of one relay.
type Link = uplink.Status

// Status is what `fairlead-agent status` shows.
type Status struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Epoch    string    `json:"epoch"`
	SPIFFEID string    `json:"spiffe_id"`
	NotAfter time.Time `json:"not_after"` // of the SVID
	Expiries []Expiry  `json:"expiries"`  // of all that must be renewed, the SVID too
	Draining bool      `json:"draining"`
	Links    []Link    `json:"links"`
	Tunnels  []Tunnel  `json:"tunnels"`
}

// Expiry is when something has to be renewed by.
type Expiry struct {
	Kind     string    `json:"kind"` // svid or bundle
	Name     string    `json:"name"` // the SPIFFE ID or trust domain
	NotAfter time.Time `json:"not_after"`
}

// Tunnel is one tunnel of the agent's file.
type Tunnel struct {
	Name    string `json:"name"`
	Backend string `json:"backend"`
	Up      bool   `json:"up"` // as far as its health check knows; true without one
	Reason  string `json:"reason,omitempty"`
}

// Status returns a snapshot.
func (a *Agent) Status() Status {
	g := a.current.Load()
	s := Status{Name: g.file.Name, Version: a.cfg.Version, Epoch: fmt.Sprintf("%016x", a.epoch), SPIFFEID: g.source.ID().String(),
		Draining: a.stopping.Load(), Links: g.uplink.Status()}
	if cert, err := g.source.Certificate(); err == nil {
		s.NotAfter = cert.Leaf.NotAfter
	}
	for _, e := range g.source.Expiries() {
		s.Expiries = append(s.Expiries, Expiry{e.Kind, e.Name, e.Until})
	}
	slices.SortFunc(s.Expiries, func(a, b Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	down := map[string]string{}
	for _, d := range g.watcher.Down() {
		down[string(d.Name)] = d.Sentence
	}
	for _, t := range g.file.Tunnels {
		reason, isDown := down[string(t.Name)]
		s.Tunnels = append(s.Tunnels, Tunnel{Name: string(t.Name), Backend: t.Backend.String(), Up: !isDown, Reason: reason})
	}
	return s
}

// RequestStatus asks the agent that answers on the control socket, or that of the configuration file where socket is
// empty.
func RequestStatus(ctx context.Context, file, socket string) (*Status, error) {
	c, err := client(file, socket)
	if err != nil {
		return nil, err
	}
	s := new(Status)
	return s, c.Status(ctx, s)
}

// RequestReload makes that agent read its configuration again.
func RequestReload(ctx context.Context, file, socket string) error {
	c, err := client(file, socket)
	if err != nil {
		return err
	}
	return c.Reload(ctx)
}

func client(file, socket string) (*control.Client, error) {
	if socket == "" {
		f, err := config.Load(file)
		if err != nil {
			return nil, err
		}
		if socket = f.Control; socket == "" {
			return nil, errors.New("the configuration has no control socket")
		}
	}
	return control.Dial(socket), nil
}
