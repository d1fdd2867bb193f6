package route

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

// parrot accepts and sends back what it gets.
func parrot(_ context.Context, _ *protocol.Open, s link.Stream) {
	if routetest.Accept(s) == nil {
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	}
}

func TestATCPStreamCarriesBothWaysAndCountsAsACall(t *testing.T) {
	r := newRig(t)
	a := r.start(routetest.Options{}, parrot)
	s, l, err := r.Open(t.Context(), openTCP(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l != a.Link || l.Calls() != 1 {
		t.Fatalf("%d calls run, expected 1", l.Calls())
	}
	if _, err := s.Write([]byte("squawk")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "squawk" {
		t.Fatalf("got %q, %v", b, err)
	}
	_ = s.Close()
	_ = s.Close()
	if l.Calls() != 0 {
		t.Fatalf("%d calls run after the end, expected 0", l.Calls())
	}
}

func TestNoAgentIsSaidWhenNoneServesTheTunnel(t *testing.T) {
	r := newRig(t)
	_, _, err := r.Open(t.Context(), openTCP(), nil)
	r.wantFault(err, protocol.NoAgent, false)
	_, _, err = r.do("GET", "")
	r.wantFault(err, protocol.NoAgent, false)
}

func TestARefusalFromBeforeTheBackendGoesToTheNextAgent(t *testing.T) {
	r := newRig(t)
	var refusals counted
	r.start(routetest.Options{Name: "bad"}, refusals.by(routetest.Refuser(protocol.BackendUnreachable, false)))
	r.start(routetest.Options{Name: "good"}, parrot)
	for range 20 {
		s, l, err := r.Open(t.Context(), openTCP(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if l.Name != "good" {
			t.Fatalf("the call is at %s", l.Name)
		}
		_ = s.Close()
	}
	if refusals.count() == 0 {
		t.Fatal("the bad agent was never asked: the test shows nothing")
	}
}

func TestTheLastRefusalIsWhatTheCallerHears(t *testing.T) {
	r := newRig(t)
	r.start(routetest.Options{}, routetest.Refuser(protocol.AgentDenied, false))
	_, _, err := r.Open(t.Context(), openTCP(), nil)
	r.wantFault(err, protocol.AgentDenied, false)
	_, _, err = r.do("GET", "")
	r.wantFault(err, protocol.AgentDenied, false)
}

func TestALinkThatAdmitsNoMoreStreamsIsPassedOver(t *testing.T) {
	r := newRig(t)
	full := r.start(routetest.Options{Name: "full", Config: link.Config{MaxStreams: 1}}, parrot)
	hold, err := full.Link.Session.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	_, _, err = r.Open(t.Context(), openTCP(), nil)
	r.wantFault(err, protocol.StreamLimit, false)
	r.start(routetest.Options{Name: "free"}, parrot)
	for range 10 {
		s, l, err := r.Open(t.Context(), openTCP(), nil)
		if err != nil || l.Name != "free" {
			t.Fatalf("Open: %v", err)
		}
		_ = s.Close()
	}
}

func TestALinkThatEndsWhileOpeningGoesToTheNext(t *testing.T) {
	r := newRig(t)
	var lost counted
	for _, name := range []string{"x", "y"} {
		var a *routetest.Agent
		started := make(chan struct{})
		a = r.start(routetest.Options{Name: name}, lost.by(func(_ context.Context, _ *protocol.Open, _ link.Stream) {
			<-started
			a.Session.Close(nil)
		}))
		close(started)
	}
	good := r.start(routetest.Options{Name: "good"}, parrot)
	s, l, err := r.Open(t.Context(), openTCP(), nil)
	if err != nil || l != good.Link {
		t.Fatalf("Open: %v", err)
	}
	_ = s.Close()
}

func TestAnAgentThatNeverAnswersIsGivenItsTimeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(routetest.Options{}, func(ctx context.Context, _ *protocol.Open, s link.Stream) {
			_, _ = io.Copy(io.Discard, s)
		})
		began := time.Now()
		_, _, err := r.Open(t.Context(), openTCP(), nil)
		r.wantFault(err, protocol.BackendTimeout, true)
		if took := time.Since(began); took != 5*time.Second {
			t.Fatalf("took %v, expected 5 s", took)
		}
	})
}

func TestACallerThatGoesAwayEndsTheOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		reset := make(chan error, 1)
		a := r.start(routetest.Options{}, func(_ context.Context, _ *protocol.Open, s link.Stream) {
			_, err := s.Read(make([]byte, 1))
			reset <- err
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := r.Open(ctx, openTCP(), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Open: %v, expected the context's end", err)
		}
		if e, ok := errors.AsType[*link.ResetError](<-reset); !ok || e.Code != link.CodeCanceled {
			t.Fatal("the agent was not told by a reset")
		}
		if a.Link.Calls() != 0 {
			t.Fatalf("%d calls run, expected 0", a.Link.Calls())
		}
	})
}

func TestALinkGetsNoMoreCallsThanTheRelayGivesIt(t *testing.T) {
	r := newRig(t)
	r.perLink = 2
	a := r.start(routetest.Options{}, parrot)
	var held []link.Stream
	for range 2 {
		s, _, err := r.Open(t.Context(), openTCP(), nil)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	_, _, err := r.Open(t.Context(), openTCP(), nil)
	r.wantFault(err, protocol.StreamLimit, false)
	_, _, err = r.do("GET", "")
	r.wantFault(err, protocol.StreamLimit, false)
	if n := a.Link.Calls(); n != 2 {
		t.Errorf("%d calls run, expected 2", n)
	}
	for _, s := range held {
		_ = s.Close()
	}
	s, _, err := r.Open(t.Context(), openTCP(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestFirstBytesCrossWithTheOpenAndReachTheAgentThatTakesTheCall(t *testing.T) {
	r := newRig(t)
	r.start(routetest.Options{Name: "bad"}, routetest.Refuser(protocol.BackendUnreachable, false))
	r.start(routetest.Options{Name: "good"}, parrot)
	for range 20 {
		s, _, err := r.Open(t.Context(), openTCP(), []byte("early "))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("and late")); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); err != nil || string(b) != "early and late" {
			t.Fatalf("got %q, %v", b, err)
		}
		_ = s.Close()
	}
}

func TestCallWhoseFirstBytesMayHaveArrivedIsNotTriedElsewhere(t *testing.T) {
	r := newRig(t)
	var asked counted
	lost := asked.by(func(_ context.Context, _ *protocol.Open, s link.Stream) { s.Reset(uint16(protocol.LinkLost)) })
	r.start(routetest.Options{Name: "a"}, lost)
	r.start(routetest.Options{Name: "b"}, lost)
	_, _, err := r.Open(t.Context(), openTCP(), []byte("INSERT"))
	r.wantFault(err, protocol.LinkLost, true)
	if n := asked.count(); n != 1 {
		t.Errorf("%d agents got the bytes, expected one", n)
	}
}
