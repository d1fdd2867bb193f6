package route

import (
	"testing"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

// over makes a link in memory pass for another transport.
func over(transport string) func(link.Session) link.Session {
	return func(s link.Session) link.Session { return &transported{s, transport} }
}

type transported struct {
	link.Session
	transport string
}

func (s *transported) Info() link.Info {
	i := s.Session.Info()
	i.Transport = s.transport
	return i
}

func suspect() bool { return true }

// picks counts how often each link comes first.
func (r *rig) picks(n int) map[*registry.Link]int {
	got := make(map[*registry.Link]int)
	for range n {
		got[r.search("orders").next()]++
	}
	return got
}

func TestTheAgentWithFewerCallsIsPicked(t *testing.T) {
	r := newRig(t)
	idle := r.start(routetest.Options{Name: "idle"}, nil)
	busy := r.start(routetest.Options{Name: "busy"}, nil)
	busy.Link.Begin()
	defer busy.Link.End()
	if got := r.picks(50); got[idle.Link] != 50 {
		t.Fatalf("the idle agent came first %d times of 50", got[idle.Link])
	}
}

func TestEqualAgentsShareTheCalls(t *testing.T) { // R01
	r := newRig(t)
	a := r.start(routetest.Options{Name: "a"}, nil)
	b := r.start(routetest.Options{Name: "b"}, nil)
	c := r.start(routetest.Options{Name: "c"}, nil)
	got := r.picks(3000)
	for _, l := range []*registry.Link{a.Link, b.Link, c.Link} {
		if got[l] < 800 {
			t.Errorf("agent %s came first %d times of 3000", l.Name, got[l])
		}
	}
}

func TestAnAgentsBestLinkIsPicked(t *testing.T) {
	r := newRig(t)
	quic := r.start(routetest.Options{Slot: 0, Wrap: over("quic")}, nil)
	busy := r.start(routetest.Options{Slot: 0, Wrap: over("tcp")}, nil)
	idle := r.start(routetest.Options{Slot: 1, Wrap: over("tcp")}, nil)
	stuck := r.start(routetest.Options{Slot: 2, Wrap: over("tcp"), Suspect: suspect}, nil)
	busy.Link.Begin()
	defer busy.Link.End()
	idle.Link.SetStatus(&protocol.TunnelStatus{Name: "orders", Up: true})
	s := r.search("orders")
	for i, want := range []*registry.Link{idle.Link, busy.Link, quic.Link, stuck.Link} {
		if got := s.next(); got != want {
			t.Fatalf("choice %d is slot %d of %s, expected slot %d of %s", i, got.Slot, got.Transport, want.Slot, want.Transport)
		}
	}
	if got := s.next(); got != nil {
		t.Fatalf("a fifth choice of four links")
	}
}

func TestHealthyAgentsComeBeforeDownAndSuspectOnes(t *testing.T) {
	r := newRig(t)
	down := r.start(routetest.Options{Name: "down"}, nil)
	down.Link.SetStatus(&protocol.TunnelStatus{Name: "orders", Sentence: "connection refused"})
	stuck := r.start(routetest.Options{Name: "stuck", Suspect: suspect}, nil)
	fine := r.start(routetest.Options{Name: "fine"}, nil)
	for range 100 {
		fine.Link.Begin()
		defer fine.Link.End()
	}
	for range 20 {
		s := r.search("orders")
		for i, want := range []*registry.Link{fine.Link, down.Link, stuck.Link} {
			if got := s.next(); got != want {
				t.Fatalf("choice %d is %s, expected %s", i, got.Name, want.Name)
			}
		}
	}
}

func TestNoCallIsTriedOnMoreThanFourLinks(t *testing.T) {
	r := newRig(t)
	for epoch := range uint64(6) {
		r.start(routetest.Options{Name: string(rune('a' + epoch))}, nil)
	}
	s, n := r.search("orders"), 0
	for s.next() != nil {
		n++
	}
	if n != 4 {
		t.Fatalf("%d choices, expected 4", n)
	}
}
