package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// voiced is a session in memory that says which transport it is, and notes doubts. Stats, and the lanes of a lane link,
// are what the test says.
type voiced struct {
	link.Session
	transport  string
	doubts     int
	stats      atomic.Pointer[link.Stats]
	free, busy int
}

func (v *voiced) Stats() link.Stats {
	if s := v.stats.Load(); s != nil {
		return *s
	}
	return link.Stats{}
}

func (v *voiced) Info() link.Info { return link.Info{Transport: v.transport} }
func (v *voiced) Doubt(error)     { v.doubts++ }

func session(transport string) *voiced {
	s, _ := memlink.Pair(link.Config{}, link.Config{})
	return &voiced{Session: s, transport: transport, free: 2}
}

// laneLike is a voiced that has lanes.
type laneLike struct{ *voiced }

func (l laneLike) Free() int              { return l.free }
func (l laneLike) Lanes() (all, busy int) { return l.free + l.busy, l.busy }

func (r *rig) addLane(epoch uint64, slot uint16, begin func() link.Session) (*registry.Link, bool) {
	r.t.Helper()
	l, verdicts, first, err := r.AddLane(registry.Offer{Agent: acme, Name: "a", Epoch: epoch, Slot: slot,
		Tunnels: []protocol.TunnelName{"orders", "loot"}}, begin)
	if err != nil {
		r.t.Fatalf("AddLane: %v", err)
	}
	if len(verdicts) != 2 || verdicts[0].Code != protocol.OK || verdicts[1].Code != protocol.TunnelNotOwned {
		r.t.Errorf("verdicts %+v; expected orders taken and loot refused", verdicts)
	}
	return l, first
}

func lanes() link.Session { return session("lane") }

func TestLanesOfOneAgentAreOneLink(t *testing.T) {
	r := newRig(t, nil)
	a, first := r.addLane(1, 7, lanes)
	b, again := r.addLane(1, 7, lanes)
	if a != b || !first || again {
		t.Errorf("two lanes are %p and %p, first %t and %t; expected one link that the first began", a, b, first, again)
	}
	r.wantCandidates("orders", a)
	if other, first := r.addLane(1, 8, lanes); other == a || !first {
		t.Error("lanes of another slot joined")
	}
}

func TestLaneOfANewProcessEndsTheOldOnes(t *testing.T) {
	r := newRig(t, nil)
	old, _ := r.addLane(1, 7, lanes)
	now, first := r.addLane(2, 7, lanes)
	if !first {
		t.Error("a new epoch joined the old one's lanes")
	}
	r.wantCandidates("orders", now)
	<-old.Session.Done()
	r.Wait()
}

func TestLaneAfterTheSessionsEndBeginsAnother(t *testing.T) {
	r := newRig(t, nil)
	old, _ := r.addLane(1, 7, lanes)
	old.Session.Close(nil)
	now, first := r.addLane(1, 7, lanes)
	if now == old || !first {
		t.Error("a lane joined a session that has ended")
	}
	r.Remove(old) // comes late
	r.wantCandidates("orders", now)
}

func TestLanesHearOfBackendsFromTheAgentsOtherLinks(t *testing.T) {
	r := newRig(t, nil)
	o := offer(acme, "a", 1, 1, "orders")
	o.Session = session("tcp")
	tcp := r.add(o)
	tcp.SetStatus(&protocol.TunnelStatus{Name: "orders", Sentence: "refused"})
	l, _ := r.addLane(1, 7, lanes)
	if l.Up("orders") {
		t.Error("the lane does not know what was said before it came")
	}
	tcp.SetStatus(&protocol.TunnelStatus{Name: "orders", Up: true})
	if !l.Up("orders") {
		t.Error("the lane does not hear what is said now")
	}
}

func TestBackendThatCameUpUnheardIsUpOnceTheAgentSpeaksAgain(t *testing.T) {
	r := newRig(t, nil)
	speak := func(slot uint16) *registry.Link {
		o := offer(acme, "a", 1, slot, "orders")
		o.Session = session("tcp")
		return r.add(o)
	}
	down := &protocol.TunnelStatus{Name: "orders", Sentence: "refused"}
	tcp := speak(1)
	tcp.SetStatus(down)
	l, _ := r.addLane(1, 7, lanes)
	r.Remove(tcp)
	if l.Up("orders") {
		t.Error("the last word on a backend went with the link that brought it")
	}
	tcp = speak(1)
	if !l.Up("orders") || !tcp.Up("orders") {
		t.Error("what the lanes still knew from before stands against a new link, which says what is down")
	}
	tcp.SetStatus(down)
	if again := speak(2); again.Up("orders") || l.Up("orders") {
		t.Error("a second link made forgotten what the first one says")
	}
	if again := speak(1); !again.Up("orders") { // in the first one's place, beside the second
		tcp.SetStatus(&protocol.TunnelStatus{Name: "orders", Up: true})
	} else {
		t.Error("a link that takes another's place made forgotten what a third one says")
	}
	if !l.Up("orders") {
		t.Error("the lanes do not hear it")
	}
}

func TestForeignTunnelIsSaidOnceForAllLanes(t *testing.T) {
	r := newRig(t, nil)
	for range 10 {
		r.addLane(1, 7, lanes)
	}
	if n := strings.Count(r.log.String(), "does not own"); n != 1 {
		t.Errorf("%d lines for 10 lanes, expected one", n)
	}
}

func TestThreeTransportsOverSeveralAddressesFitTwice(t *testing.T) {
	r := newRig(t, nil)
	for slot := range uint16(12) {
		o := offer(acme, "a", 1, slot, "orders")
		o.Session = session([]string{"tcp", "lane", "quic"}[slot%3])
		r.add(o)
	}
}

func TestStatusSaysWhichLinkCallsTakeAndWhy(t *testing.T) {
	r := newRig(t, nil)
	ways, silent := map[string]*voiced{}, map[string]bool{}
	for i, transport := range []string{"tcp", "lane", "quic"} {
		v := session(transport)
		ways[transport] = v
		o := offer(acme, "a", 1, uint16(i), "orders")
		o.Session, o.Suspect = v, func() bool { return silent[transport] }
		if transport == "lane" {
			o.Session, o.Suspect = laneLike{v}, nil
		}
		l := r.add(o)
		defer r.Remove(l)
	}
	o := offer(acme, "b", 1, 0, "orders") // another agent's links are another matter
	o.Session = session("tcp")
	r.add(o)
	for _, c := range []struct {
		what            string
		free, busy      int
		silent          bool
		lane, tcp, quic string
	}{
		{"free lanes", 2, 1, false, "+a lane is free", "lanes are free", "stands by while TCP lives"},
		{"busy lanes", 0, 3, false, "every lane is busy", "+no lane is free", "stands by while TCP lives"},
		{"no lane", 0, 0, false, "no lane stands", "+no lane is free", "stands by while TCP lives"},
		{"silent TCP", 2, 1, true, "does not answer", "does not answer", "+TCP does not answer"},
	} {
		ways["lane"].free, ways["lane"].busy, silent["tcp"] = c.free, c.busy, c.silent
		all := r.Snapshot()
		for _, s := range all[:3] {
			r.Judge(linkOf(r, s))
		}
		for _, s := range r.Snapshot()[:3] {
			got := s.Why
			if s.Used {
				got = "+" + got
			}
			if want := map[string]string{"lane": c.lane, "tcp": c.tcp, "quic": c.quic}[s.Transport]; got != want {
				t.Errorf("%s: %s is %q, expected %q", c.what, s.Transport, got, want)
			}
			if s.Transport == "lane" && (s.Lanes != c.free+c.busy || s.Busy != c.busy) {
				t.Errorf("%s: %d lanes, %d busy", c.what, s.Lanes, s.Busy)
			}
		}
	}
}

func linkOf(r *rig, s registry.Status) *registry.Link {
	for _, l := range r.Candidates("orders") {
		if l.Name == s.Name && l.Slot == s.Slot {
			return l
		}
	}
	return nil
}

func TestGoodputIsTheMeanOfFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		v := session("tcp")
		o := offer(acme, "a", 1, 0, "orders")
		o.Session = v
		r.add(o)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go r.Run(ctx)
		time.Sleep(link.MeterEvery + time.Second)
		v.stats.Store(&link.Stats{SentBytes: 50_000, ReceivedBytes: 5000, SentPackets: 100, LostPackets: 10})
		time.Sleep(link.MeterEvery)
		if s := r.Snapshot()[0]; s.Out != 9000 || s.In != 1000 || s.Sent != 50_000 || s.Packets != 100 || s.Lost != 10 || s.Loss != 0.1 {
			t.Errorf("%+v; expected 9,000 and 1,000 bytes a second", s)
		}
		time.Sleep(link.MeterEvery)
		if s := r.Snapshot()[0]; s.Out != 0 || s.In != 0 {
			t.Errorf("%d and %d bytes a second on a quiet link", s.Out, s.In)
		}
	})
}

func TestTotalsOutliveTheirLinks(t *testing.T) {
	r := newRig(t, nil)
	total := func(want uint64) {
		t.Helper()
		if got := r.Totals()["tcp"].SentBytes; got != want {
			t.Errorf("%d bytes in all, expected %d", got, want)
		}
	}
	v := session("tcp")
	o := offer(acme, "a", 1, 0, "orders")
	o.Session = v
	first := r.add(o)
	v.stats.Store(&link.Stats{SentBytes: 100})
	total(100)
	next := session("tcp")
	next.stats.Store(&link.Stats{SentBytes: 7})
	o.Session = next
	r.add(o) // in the first one's place
	total(107)
	v.stats.Store(&link.Stats{SentBytes: 150}) // what was still on its way
	r.Remove(first)
	r.Remove(first)
	total(157)
	v.stats.Store(nil) // its socket is closed
	r.Remove(first)
	total(157)
}

func TestLanesAreSuspectWhileEveryTCPLinkIs(t *testing.T) {
	r := newRig(t, nil)
	suspect := [2]bool{}
	var tcp [2]*registry.Link
	for i := range tcp {
		o := offer(acme, "a", 1, uint16(i), "orders")
		o.Session, o.Suspect = session("tcp"), func() bool { return suspect[i] }
		tcp[i] = r.add(o)
	}
	l, _ := r.addLane(1, 7, lanes)
	check := func(what string, want bool) {
		t.Helper()
		r.Judge(tcp[0])
		if l.Suspect() != want {
			t.Errorf("%s: suspect %t", what, l.Suspect())
		}
	}
	check("both answer", false)
	suspect[0] = true
	check("one answers", false)
	suspect[1] = true
	check("none answers", true)
	r.Remove(tcp[1])
	check("one is gone, and the other does not answer", true)
	suspect[0] = false
	check("it answers again", false)
}

func TestDeathBySilenceIsADoubtOfTheLanes(t *testing.T) {
	r := newRig(t, nil)
	o := offer(acme, "a", 1, 1, "orders")
	o.Session = session("tcp")
	tcp := r.add(o)
	mine, other := session("lane"), session("lane")
	r.addLane(1, 7, func() link.Session { return mine })
	_, _, _, err := r.AddLane(registry.Offer{Agent: acme, Name: "b", Epoch: 1, Slot: 7}, func() link.Session { return other })
	if err != nil {
		t.Fatal(err)
	}
	r.Doubt(tcp, errors.New("silent"))
	if mine.doubts != 1 || other.doubts != 0 {
		t.Errorf("doubted %d times, and the other agent's lanes %d times; expected 1 and 0", mine.doubts, other.doubts)
	}
}
