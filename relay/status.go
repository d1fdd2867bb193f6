package relay

import (
	"context"
	"slices"
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
	Expiries []Expiry  `json:"expiries"`  // of all that must be renewed, the SVID too
	Bans     int       `json:"bans"`      // of the authority's, as they were heard last
	Listen   string    `json:"listen"`
	Draining bool      `json:"draining"`
	Unproved int       `json:"unproved_connections"`
	UDP      *Buffers  `json:"udp_buffers,omitempty"` // once the port is open
	Links    []Link    `json:"links"`
	Tunnels  []Tunnel  `json:"tunnels"`
}

// Expiry is when something has to be renewed by.
type Expiry struct {
	Kind     string    `json:"kind"` // svid, bundle, server_certificate or keys
	Name     string    `json:"name"` // the SPIFFE ID, trust domain, DNS names or issuer
	NotAfter time.Time `json:"not_after"`
}

// Tunnel is one tunnel of the relay's file.
type Tunnel struct {
	Name     string   `json:"name"`
	Protocol string   `json:"protocol"`
	Hosts    []string `json:"hosts"`
	Agents   int      `json:"agents"` // processes that serve it, each over several links
	Up       int      `json:"up"`     // of them, those that answer and whose backend is up
}

// Buffers are what the kernel gave the UDP socket, in bytes; Short is what is missing of Wanted in the smaller one.
type Buffers struct {
	Wanted  int `json:"wanted"`
	Receive int `json:"receive"`
	Send    int `json:"send"`
	Short   int `json:"short"`
}

// Status returns a snapshot.
func (r *Relay) Status() Status {
	x := r.current.Load()
	s := Status{Name: r.name, Version: r.cfg.Version, SPIFFEID: r.source.ID().String(), Listen: x.file.Listen.String(),
		Draining: r.stopping.Load(), Unproved: r.strangers.Unproved(), UDP: r.udp.Load(), Links: r.registry.Snapshot(),
		Bans: len(*r.bans.list.Load())}
	if cert, err := r.source.Certificate(); err == nil {
		s.NotAfter = cert.Leaf.NotAfter
	}
	for _, e := range r.Expiries() {
		s.Expiries = append(s.Expiries, Expiry{e.Kind, e.Name, e.Until})
	}
	slices.SortFunc(s.Expiries, func(a, b Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	for _, t := range x.table.All() {
		row := Tunnel{Name: string(t.Name), Protocol: t.Network.String()}
		for _, h := range t.Hosts {
			row.Hosts = append(row.Hosts, string(h))
		}
		row.Agents, row.Up = r.registry.Agents(t.Name)
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
