package control

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
)

var hello = &protocol.Hello{MinVersion: protocol.MinVersion, MaxVersion: protocol.MaxVersion, Agent: "dc1-a", Epoch: 7,
	Tunnels: []protocol.TunnelName{"orders"}}

func welcomeAll(h *protocol.Hello) *protocol.Welcome {
	w := &protocol.Welcome{Relay: "a"}
	for _, t := range h.Tunnels {
		w.Tunnels = append(w.Tunnels, protocol.TunnelVerdict{Name: t})
	}
	return w
}

// pair registers an agent at a relay over a link in memory, and runs both control streams until the test ends.
type pair struct {
	agent, relay         *Conn
	agentLink, relayLink *memlink.Session
	agentEnd, relayEnd   chan error
}

func register(t *testing.T, agentSays, relaySays Handler) *pair {
	t.Helper()
	p := &pair{agentEnd: make(chan error, 1), relayEnd: make(chan error, 1)}
	p.agentLink, p.relayLink = memlink.Pair(link.Config{}, link.Config{})
	accepted := make(chan error, 1)
	go func() {
		var err error
		p.relay, _, err = Accept(t.Context(), p.relayLink, welcomeAll, Config{})
		accepted <- err
	}()
	conn, welcome, err := Dial(t.Context(), p.agentLink, hello, Config{})
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	if welcome.Version != protocol.MaxVersion || len(welcome.Tunnels) != 1 {
		t.Fatalf("welcome %+v", welcome)
	}
	p.agent = conn
	go func() { p.agentEnd <- p.agent.Run(t.Context(), agentSays) }()
	go func() { p.relayEnd <- p.relay.Run(t.Context(), relaySays) }()
	t.Cleanup(func() {
		p.agentLink.Close(nil)
		p.relayLink.Close(nil)
	})
	return p
}

func TestBothEndsMeasureTheRoundTripAndStayAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := register(t, Handler{}, Handler{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if p.agent.RTT() == 0 || p.relay.RTT() == 0 || p.agent.Suspect() || p.relay.Suspect() {
			t.Errorf("agent %v suspect %v, relay %v suspect %v", p.agent.RTT(), p.agent.Suspect(), p.relay.RTT(), p.relay.Suspect())
		}
		if p.agentLink.Err() != nil || p.relayLink.Err() != nil {
			t.Errorf("ended: %v, %v", p.agentLink.Err(), p.relayLink.Err())
		}
	})
}

func TestAPeerThatVanishesIsSuspectThenDeadOnBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		suspected := make(chan time.Time, 8)
		p := register(t, Handler{Suspect: func(s bool) {
			if s {
				suspected <- time.Now()
			}
		}}, Handler{})
		st, err := p.relayLink.Open(t.Context()) // so that the link is busy
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		p.agentLink.Vanish()
		vanished := time.Now()
		if got := (<-suspected).Sub(vanished); got > 1500*time.Millisecond {
			t.Errorf("suspect %v after the last byte; expected within a ping's interval and 300 ms", got)
		}
		for name, end := range map[string]chan error{"agent": p.agentEnd, "relay": p.relayEnd} {
			if err := <-end; !errors.Is(err, ErrDead) {
				t.Errorf("%s: %v; expected ErrDead", name, err)
			}
		}
		if got := time.Since(vanished); got > 6*time.Second {
			t.Errorf("dead after %v; expected 5 s of silence", got)
		}
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, link.ErrLost) {
			t.Errorf("a stream of the dead link reads %v; expected ErrLost", err)
		}
	})
}

func TestALinkThatRecoversIsNoLongerSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := register(t, Handler{}, Handler{})
		time.Sleep(time.Minute)
		p.agentLink.Vanish()
		time.Sleep(6 * time.Second) // idle: pings every 5 s, dead after 15
		synctest.Wait()
		if !p.agent.Suspect() {
			t.Error("not suspect after 6 s of silence")
		}
		p.agentLink.Restore()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if p.agent.Suspect() || p.agentLink.Err() != nil {
			t.Errorf("suspect %v, %v after the link came back", p.agent.Suspect(), p.agentLink.Err())
		}
	})
}

func TestARefusalIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := memlink.Pair(link.Config{}, link.Config{})
		accepted := make(chan error, 1)
		go func() {
			_, _, err := Accept(t.Context(), r, func(*protocol.Hello) *protocol.Welcome {
				return &protocol.Welcome{Code: protocol.IdentityBanned, Sentence: "banned", RetryAfter: time.Minute}
			}, Config{})
			accepted <- err
		}()
		_, _, err := Dial(t.Context(), a, hello, Config{})
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || refused.Code != protocol.IdentityBanned || refused.RetryAfter() != time.Minute {
			t.Errorf("%v; expected the refusal with its code and time", err)
		}
		if err := <-accepted; err == nil {
			t.Error("the relay's end took the link")
		}
		<-a.Done()
		<-r.Done()
	})
}

func TestVersionsThatDoNotMeetAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := memlink.Pair(link.Config{}, link.Config{})
		accepted := make(chan error, 1)
		go func() {
			_, _, err := Accept(t.Context(), r, welcomeAll, Config{})
			accepted <- err
		}()
		future := *hello
		future.MinVersion, future.MaxVersion = 90, 99
		_, _, err := Dial(t.Context(), a, &future, Config{})
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Code != protocol.VersionUnsupported {
			t.Errorf("%v; expected version_unsupported", err)
		}
		<-accepted
	})
}

func TestALinkThatSaysNoHelloEndsAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := memlink.Pair(link.Config{}, link.Config{})
		defer a.Close(nil)
		start := time.Now()
		_, _, err := Accept(t.Context(), r, welcomeAll, Config{})
		if !errors.Is(err, &protocol.Error{Code: protocol.RegistrationTimeout}) && protocol.AsError(err).Code != protocol.RegistrationTimeout {
			t.Errorf("%v; expected registration_timeout", err)
		}
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("after %v", got)
		}
		<-r.Done()
	})
}

func TestNonsenseOnTheControlStreamEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := register(t, Handler{}, Handler{})
		if err := p.agent.Send(hello); err != nil {
			t.Fatal(err)
		}
		if err := <-p.relayEnd; !errors.Is(err, protocol.ErrMalformed) && !errors.Is(err, link.ErrLost) {
			t.Errorf("a second hello: %v", err)
		}
		<-p.relayLink.Done()
	})
}

func TestStatusAndDrainArriveInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan protocol.Message, 2)
		p := register(t, Handler{}, Handler{
			Status: func(m *protocol.TunnelStatus) { got <- m },
			Drain:  func(m *protocol.Drain) { got <- m },
		})
		if err := errors.Join(p.agent.Send(&protocol.TunnelStatus{Name: "orders"}), p.agent.Send(&protocol.Drain{Code: protocol.Draining})); err != nil {
			t.Fatal(err)
		}
		if m, ok := (<-got).(*protocol.TunnelStatus); !ok || m.Name != "orders" {
			t.Errorf("first %+v", m)
		}
		if m, ok := (<-got).(*protocol.Drain); !ok || m.Code != protocol.Draining {
			t.Errorf("second %+v", m)
		}
	})
}

func TestRunReturnsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := memlink.Pair(link.Config{}, link.Config{})
		accepted := make(chan *Conn, 1)
		go func() {
			c, _, _ := Accept(t.Context(), r, welcomeAll, Config{})
			accepted <- c
		}()
		conn, _, err := Dial(t.Context(), a, hello, Config{})
		if err != nil {
			t.Fatal(err)
		}
		<-accepted
		why := errors.New("told to stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		end := make(chan error, 1)
		go func() { end <- conn.Run(ctx, Handler{}) }()
		synctest.Wait()
		cancel(why)
		if err := <-end; !errors.Is(err, why) {
			t.Errorf("%v; expected the cause", err)
		}
		if !errors.Is(a.Err(), why) {
			t.Errorf("the session's error is %v; expected it to say why", a.Err())
		}
		r.Close(nil)
	})
}
