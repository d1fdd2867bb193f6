package relay

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/relay/internal/config"
	"github.com/fairlead/fairlead/relay/internal/control"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// Link is one agent's link.
type Link = registry.Status

// Status is what `fairlead-relay status` shows.
type Status struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	SPIFFEID string    `json:"spiffe_id"`
	NotAfter time.Time `json:"not_after"` // of the SVID
	Listen   string    `json:"listen"`
	Draining bool      `json:"draining"`
	Unproved int       `json:"unproved_connections"`
	Links    []Link    `json:"links"`
	Tunnels  []Tunnel  `json:"tunnels"`
}

// Tunnel is one tunnel of the relay's file.
type Tunnel struct {
	Name     string   `json:"name"`
	Protocol string   `json:"protocol"`
	Hosts    []string `json:"hosts"`
	Links    int      `json:"links"` // that serve it
	Up       int      `json:"up"`    // of them, whose backend is up and which are not suspect
}

// Status returns a snapshot.
func (r *Relay) Status() Status {
	x := r.current.Load()
	s := Status{Name: r.name, Version: r.cfg.Version, SPIFFEID: r.source.ID().String(), Listen: x.file.Listen.String(),
		Draining: r.stopping.Load(), Unproved: r.strangers.Unproved(), Links: r.registry.Snapshot()}
	if cert, err := r.source.Certificate(); err == nil {
		s.NotAfter = cert.Leaf.NotAfter
	}
	for _, t := range x.table.All() {
		row := Tunnel{Name: string(t.Name), Protocol: t.Network.String()}
		for _, h := range t.Hosts {
			row.Hosts = append(row.Hosts, string(h))
		}
		for _, l := range r.registry.Candidates(t.Name) {
			row.Links++
			if l.Up(t.Name) && !l.Suspect() {
				row.Up++
			}
		}
		s.Tunnels = append(s.Tunnels, row)
	}
	return s
}

// RequestStatus asks the relay that answers on the control socket, or that of the configuration file where socket is
// empty.
func RequestStatus(ctx context.Context, file, socket string) (*Status, error) {
	c, err := client(file, socket)
	if err != nil {
		return nil, err
	}
	s := new(Status)
	return s, c.Status(ctx, s)
}

// RequestReload makes that relay read its configuration again.
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
		socket = f.Control
	}
	return control.Dial(socket), nil
}
