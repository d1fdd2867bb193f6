//go:build linux

package main

import (
	"strings"

	"github.com/fairlead/fairlead/e2e/process"
)

// A variant is one of the things compared: a way from the cloud's host to the backend, which runs already.
type variant struct {
	site      *site
	name      string
	peer      bool             // another's program
	raw       []string         // addresses on the cloud's host that lead to the raw backend
	web       string           // one that leads to the web backend through all checks there are; empty: none
	open      string           // the same without the checks that can be left out; empty: none
	near, far *process.Process // the half beside the caller and the half beside the backend; nil: none
	restart   func()           // kills near and starts it again; nil: it cannot
	ops       string           // of Fairlead's relay: health and metrics
	hop       string           // of Fairlead's relay: where agents connect
}

// pids are those of the processes that lie between.
func (v *variant) pids() []int {
	var pids []int
	for _, p := range []*process.Process{v.near, v.far} {
		if p != nil {
			pids = append(pids, p.Pid())
		}
	}
	return pids
}

// The names of Fairlead's variants.
const (
	overLanes = "fairlead lanes"
	overYamux = "fairlead yamux"
	overQUIC  = "fairlead quic"
	overAudit = "fairlead lanes, audit"
	overBBR   = "fairlead lanes, BBR"
)

// baselines are those that ratios are given to, in the table's columns.
var baselines = []string{"direct", "pair"}

// all starts everything that is compared on a fast path.
func (s *site) all() []*variant {
	all := []*variant{s.direct(), s.pair()}
	all = append(all, s.fairleads(1)...)
	return append(all, s.peers()...)
}

// fairleads starts Fairlead in its three ways, each with so many raw doors.
func (s *site) fairleads(doors int) []*variant {
	return []*variant{
		s.fairlead(fairlead{name: overLanes, transport: "tcp", doors: doors}),
		s.fairlead(fairlead{name: overYamux, transport: "tcp", noLanes: true, doors: doors}),
		s.fairlead(fairlead{name: overQUIC, transport: "quic", doors: doors}),
	}
}

// slug makes a name a file's.
func slug(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(name), ",", ""), " ", "-")
}
