package route

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

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

// lanes makes a link in memory pass for lanes, of which all are those that stand and free those that take a call.
type lanes struct {
	link.Session
	all  int
	free atomic.Int32
	lost atomic.Int32 // how many more times another call is quicker to the free lane
}

func (s *lanes) Info() link.Info        { return link.Info{Transport: registry.Lane} }
func (s *lanes) Free() int              { return int(s.free.Load()) }
func (s *lanes) Lanes() (all, busy int) { return s.all, s.all - s.Free() }
func (s *lanes) Open(ctx context.Context) (link.Stream, error) {
	if s.Free() == 0 || s.lost.Add(-1) >= 0 {
		return nil, link.ErrStreamLimit
	}
	return s.Session.Open(ctx)
}

func withLanes(all, free int) func(link.Session) link.Session {
	return func(s link.Session) link.Session {
		l := &lanes{Session: s, all: all}
		l.free.Store(int32(free))
		return l
	}
}

// Behind a load balancer an agent may have nothing here but lanes, and calls may come faster than it dials more.
func TestCallWaitsForALaneWhereTheAgentHasNothingElse(t *testing.T) {
	r := newRig(t)
	var l *lanes
	r.start(routetest.Options{Wrap: func(s link.Session) link.Session { l = &lanes{Session: s, all: 2}; return l }}, accepts)
	grown := time.AfterFunc(50*time.Millisecond, func() { l.free.Store(1) })
	defer grown.Stop()
	s, _, err := r.Open(t.Context(), openTCP(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	l.free.Store(0)
	_, _, err = r.Open(t.Context(), openTCP(), nil)
	r.wantFault(err, protocol.StreamLimit, false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := r.Open(ctx, openTCP(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; expected the end of the caller's patience", err)
	}
}

func TestCallThatLosesTheRaceForALaneWaitsForAnother(t *testing.T) {
	r := newRig(t)
	r.start(routetest.Options{Wrap: func(s link.Session) link.Session {
		l := withLanes(2, 1)(s).(*lanes)
		l.lost.Store(2 * maxTries)
		return l
	}}, accepts)
	s, _, err := r.Open(t.Context(), openTCP(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

// A link that has as many calls as it may have is no race: to try it again and again would only burn time.
func TestALaneLinkAtItsLimitIsTriedOnce(t *testing.T) {
	r := newRig(t)
	r.perLink = 1
	l := r.start(routetest.Options{Wrap: withLanes(4, 3)}, accepts).Link
	l.Begin()
	defer l.End()
	s := r.search("orders")
	if got := s.next(t.Context()); got != l {
		t.Fatalf("%v comes first", got)
	}
	s.failed(l, protocol.AsError(openFault(link.ErrStreamLimit)))
	if s.next(t.Context()) != nil {
		t.Error("the link is tried again")
	}
}

// accepts serves a call until the relay lets go of it.
func accepts(_ context.Context, _ *protocol.Open, s link.Stream) {
	if routetest.Accept(s) == nil {
		_, _ = io.Copy(io.Discard, s)
	}
}

func TestNoCallIsRefusedWhileOneAgentHasRoom(t *testing.T) {
	r := newRig(t)
	r.perLink = 3
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		r.start(routetest.Options{Name: name, Slot: 1, Wrap: withLanes(4, 0)}, nil) // every lane is busy
		full := r.start(routetest.Options{Name: name, Slot: 2, Wrap: over("tcp")}, nil)
		for range r.perLink {
			full.Link.Begin()
			defer full.Link.End()
		}
	}
	// Everything of the last agent is worse, but for its room.
	last := r.start(routetest.Options{Name: "g", Slot: 2, Wrap: over("quic"), Suspect: suspect}, accepts)
	last.Link.SetStatus(&protocol.TunnelStatus{Name: "orders", Sentence: "refused"})
	for range 2 {
		last.Link.Begin()
		defer last.Link.End()
	}
	for range 50 {
		s, l, err := r.Open(t.Context(), openTCP(), nil)
		if err != nil || l != last.Link {
			t.Fatalf("on %v: %v; expected the agent that has room", l, err)
		}
		_ = s.Close()
	}
}

func TestLanesAloneServe(t *testing.T) {
	r := newRig(t)
	alone := r.start(routetest.Options{Slot: 1, Wrap: withLanes(2, 1)}, accepts)
	s, l, err := r.Open(t.Context(), openTCP(), nil)
	if err != nil || l != alone.Link {
		t.Fatalf("on %v: %v", l, err)
	}
	_ = s.Close()
}

func TestTCPServesWhoseLanesAreBusyOrGone(t *testing.T) {
	for _, all := range []int{4, 0} {
		r := newRig(t)
		r.start(routetest.Options{Slot: 1, Wrap: withLanes(all, 0)}, nil)
		tcp := r.start(routetest.Options{Slot: 2, Wrap: over("tcp")}, nil)
		r.start(routetest.Options{Slot: 3, Wrap: over("quic")}, nil)
		if got := r.picks(20); got[tcp.Link] != 20 {
			t.Errorf("of %d lanes none is free: TCP's link came first %d times of 20", all, got[tcp.Link])
		}
	}
}

// A process that has died leaves its lanes' link behind for some seconds.
func TestAgentWhoseLanesHaveAllEndedIsNoAgent(t *testing.T) {
	r := newRig(t)
	r.start(routetest.Options{Wrap: withLanes(0, 0)}, nil)
	_, _, err := r.Open(t.Context(), openTCP(), nil)
	r.wantFault(err, protocol.NoAgent, false)
}

// picks counts how often each link comes first.
func (r *rig) picks(n int) map[*registry.Link]int {
	got := make(map[*registry.Link]int)
	for range n {
		got[r.search("orders").next(r.t.Context())]++
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
		if got := s.next(r.t.Context()); got != want {
			t.Fatalf("choice %d is slot %d of %s, expected slot %d of %s", i, got.Slot, got.Transport, want.Slot, want.Transport)
		}
	}
	if got := s.next(r.t.Context()); got != nil {
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
			if got := s.next(r.t.Context()); got != want {
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
	for s.next(r.t.Context()) != nil {
		n++
	}
	if n != 4 {
		t.Fatalf("%d choices, expected 4", n)
	}
}
