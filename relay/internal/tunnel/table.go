package tunnel

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/protocol"
)

// A Table is every tunnel of one relay.yaml. It does not change and is safe for concurrent use.
type Table struct {
	all    []*Tunnel
	byName map[protocol.TunnelName]*Tunnel
	byHost map[place][]*Tunnel // the longest prefix first
}

type place struct {
	network protocol.Network
	host    Host
}

// NewTable refuses two tunnels of one name, or of one network, host and path.
func NewTable(tunnels []*Tunnel) (*Table, error) {
	tab := &Table{
		all:    slices.Clone(tunnels),
		byName: make(map[protocol.TunnelName]*Tunnel, len(tunnels)),
		byHost: make(map[place][]*Tunnel, len(tunnels)),
	}
	for _, t := range tunnels {
		if tab.byName[t.Name] != nil {
			return nil, fmt.Errorf("two tunnels are named %s", t.Name)
		}
		tab.byName[t.Name] = t
		for _, h := range t.Hosts {
			at := place{t.Network, h}
			if i := slices.IndexFunc(tab.byHost[at], func(o *Tunnel) bool { return o.PathPrefix == t.PathPrefix }); i >= 0 {
				return nil, fmt.Errorf("tunnels %s and %s share %s %s%s", tab.byHost[at][i].Name, t.Name, t.Network, h, t.PathPrefix)
			}
			tab.byHost[at] = append(tab.byHost[at], t)
		}
	}
	for _, at := range tab.byHost {
		slices.SortFunc(at, func(a, b *Tunnel) int { return cmp.Compare(len(b.PathPrefix), len(a.PathPrefix)) })
	}
	return tab, nil
}

// All returns the tunnels in the order of the file. The caller does not change the slice.
func (tab *Table) All() []*Tunnel { return tab.all }

// Named returns the tunnel of that name.
func (tab *Table) Named(name protocol.TunnelName) (*Tunnel, bool) {
	t, ok := tab.byName[name]
	return t, ok
}

// Find returns the tunnel of that network and host whose path prefix is the longest that covers path. host is as
// RequestHost takes it. path is decoded, and is looked at for http only: a CONNECT is found by its host.
func (tab *Table) Find(network protocol.Network, host, path string) (*Tunnel, bool) {
	return find(tab.At(network, host), path)
}

// FindAny is Find among the tunnels that admit callers without an SVID, as if there were no others.
func (tab *Table) FindAny(network protocol.Network, host, path string) (*Tunnel, bool) {
	var open []*Tunnel
	for _, t := range tab.At(network, host) {
		if t.AnyCaller {
			open = append(open, t)
		}
	}
	return find(open, path)
}

func find(longestFirst []*Tunnel, path string) (*Tunnel, bool) {
	for _, t := range longestFirst {
		if t.Covers(path) {
			return t, true
		}
	}
	return nil, false
}

// At returns the tunnels of that network on that host, the longest path prefix first. The caller does not change the
// slice.
func (tab *Table) At(network protocol.Network, host string) []*Tunnel {
	return tab.byHost[place{network, RequestHost(host)}]
}
