package registry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

var (
	acme = mustID("spiffe://dc1.example/agent/acme")
	evil = mustID("spiffe://dc2.example/agent/evil")
)

func mustID(s string) certs.ID {
	id, err := certs.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// rig is a registry in which acme owns orders and ledger, and evil owns loot.
type rig struct {
	*registry.Registry
	t   *testing.T
	log *bytes.Buffer
}

func ownedBy(owners map[protocol.TunnelName]certs.ID) registry.Owns {
	return func(tunnel protocol.TunnelName, agent certs.ID) bool {
		owner, ok := owners[tunnel]
		return ok && owner == agent
	}
}

func newRig(t *testing.T, change func(*registry.Config)) *rig {
	log := new(bytes.Buffer)
	cfg := registry.Config{
		Owns: ownedBy(map[protocol.TunnelName]certs.ID{"orders": acme, "ledger": acme, "loot": evil}),
		Log:  slog.New(slog.NewJSONHandler(log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	r, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{r, t, log}
}

func offer(agent certs.ID, name string, epoch uint64, slot uint16, tunnels ...protocol.TunnelName) registry.Offer {
	session, _ := memlink.Pair(link.Config{}, link.Config{})
	return registry.Offer{Session: session, Agent: agent, Name: name, Epoch: epoch, Slot: slot, Tunnels: tunnels}
}

func (r *rig) add(o registry.Offer) *registry.Link {
	r.t.Helper()
	l, _, err := r.Add(o)
	if err != nil {
		r.t.Fatalf("Add: %v", err)
	}
	return l
}

func (r *rig) wantCandidates(tunnel protocol.TunnelName, want ...*registry.Link) {
	r.t.Helper()
	got := r.Candidates(tunnel)
	if len(got) != len(want) {
		r.t.Fatalf("%d candidates for %s, expected %d", len(got), tunnel, len(want))
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			r.t.Fatalf("a link is not among the candidates for %s", tunnel)
		}
	}
}

func (r *rig) wantClosed(l *registry.Link, closed bool) {
	r.t.Helper()
	r.Wait()
	if got := l.Session.Err() != nil; got != closed {
		r.t.Fatalf("the link is closed: %v, expected %v", got, closed)
	}
}

func TestTwoAgentsOfOneTunnelAreBothCandidates(t *testing.T) { // R01
	r := newRig(t, nil)
	a := r.add(offer(acme, "a", 1, 0, "orders"))
	b := r.add(offer(acme, "b", 2, 0, "orders"))
	r.wantCandidates("orders", a, b)
	if all := r.Snapshot(); len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Fatalf("Snapshot() = %+v, expected a and b", all)
	}
}

func TestATunnelOfSomebodyElseIsRefusedWithASecurityLine(t *testing.T) { // R02, R03
	for _, ownerOnline := range []bool{true, false} {
		r := newRig(t, nil)
		if ownerOnline {
			r.add(offer(acme, "a", 1, 0, "orders"))
		}
		l, verdicts, err := r.Add(offer(evil, "a", 2, 0, "loot", "orders", "nowhere"))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []protocol.Code{protocol.OK, protocol.TunnelNotOwned, protocol.TunnelNotOwned} {
			if verdicts[i].Code != want {
				t.Errorf("verdict on %s is %v, expected %v", verdicts[i].Name, verdicts[i].Code, want)
			}
		}
		if slices.Contains(r.Candidates("orders"), l) || len(r.Candidates("nowhere")) != 0 {
			t.Error("the thief is a candidate")
		}
		r.wantCandidates("loot", l)
		line := r.log.String()
		if !strings.Contains(line, `"security":true,"code":"tunnel_not_owned","tunnel":"orders","agent":"spiffe://dc2.example/agent/evil"`) {
			t.Errorf("no security line in the log: %s", line)
		}
	}
}

func TestALateEndOfAnOldLinkLeavesTheNewOne(t *testing.T) { // R04
	for _, epoch := range []uint64{1, 2} { // the same process, and a restarted one
		r := newRig(t, nil)
		old := r.add(offer(acme, "a", 1, 0, "orders"))
		next := r.add(offer(acme, "a", epoch, 0, "orders"))
		r.Remove(old)
		r.Remove(old)
		r.wantCandidates("orders", next)
		if len(r.Snapshot()) != 1 {
			t.Fatalf("Snapshot() = %+v, expected the new link", r.Snapshot())
		}
		r.Remove(next)
		r.wantCandidates("orders")
		if len(r.Snapshot()) != 0 {
			t.Fatalf("Snapshot() = %+v, expected nothing", r.Snapshot())
		}
	}
}

func TestARestartedAgentTakesAllItsSlotsAtOnce(t *testing.T) { // R05
	r := newRig(t, nil)
	first := r.add(offer(acme, "a", 1, 0, "orders"))
	second := r.add(offer(acme, "a", 1, 1, "orders"))
	r.wantCandidates("orders", first, second)
	other := r.add(offer(acme, "b", 7, 0, "orders"))
	next := r.add(offer(acme, "a", 2, 0, "orders"))
	r.wantCandidates("orders", next, other)
	r.wantClosed(first, true)
	r.wantClosed(second, true)
	r.wantClosed(other, false)
	if !errors.Is(first.Session.Err(), &protocol.Error{Code: protocol.DuplicateAgent}) {
		t.Errorf("the old link ended with %v, expected duplicate_agent", first.Session.Err())
	}
}

func TestTheSameSlotOfTheSameProcessIsReplaced(t *testing.T) {
	r := newRig(t, nil)
	old := r.add(offer(acme, "a", 1, 0, "orders"))
	sibling := r.add(offer(acme, "a", 1, 1, "orders"))
	next := r.add(offer(acme, "a", 1, 0, "orders"))
	r.wantCandidates("orders", next, sibling)
	r.wantClosed(old, true)
}

func TestTwoProcessesThatAlternateAreBothServedAndReported(t *testing.T) { // R06
	r := newRig(t, nil)
	r.add(offer(acme, "a", 1, 0, "orders"))
	r.add(offer(acme, "a", 2, 0, "orders"))
	one := r.add(offer(acme, "a", 1, 0, "orders"))
	two := r.add(offer(acme, "a", 2, 0, "orders"))
	r.wantCandidates("orders", one, two)
	r.wantClosed(one, false)
	line := r.log.String()
	if !strings.Contains(line, `"code":"duplicate_agent"`) || !strings.Contains(line, `"remote":"server","other_remote":"server"`) {
		t.Errorf("no report with both addresses in the log: %s", line)
	}
	for _, s := range r.Snapshot() {
		if !s.Duplicate {
			t.Errorf("%+v is not marked as a duplicate", s)
		}
	}
	r.Remove(one)
	if s := r.Snapshot(); len(s) != 1 || s[0].Duplicate {
		t.Errorf("Snapshot() = %+v, expected one link that is no duplicate any more", s)
	}
}

func TestAnAgentThatCrashesInALoopIsNoDuplicate(t *testing.T) { // R05
	r := newRig(t, nil)
	var last *registry.Link
	for epoch := range uint64(20) {
		last = r.add(offer(acme, "a", epoch, 0, "orders"))
	}
	r.wantCandidates("orders", last)
	if r.log.Len() != 0 {
		t.Errorf("unexpected log: %s", r.log)
	}
}

func TestSlowTakeoversAreRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		var last *registry.Link
		for i := range uint64(10) {
			last = r.add(offer(acme, "a", i%2, 0, "orders"))
			time.Sleep(20 * time.Second)
		}
		r.wantCandidates("orders", last)
		r.Wait()
	})
}

func TestSessionsAndLinksOfOneIdentityAreCapped(t *testing.T) {
	r := newRig(t, func(c *registry.Config) { c.SessionsPerAgent, c.LinksPerSession = 2, 3 })
	limit := &protocol.Error{Code: protocol.SessionLimit}
	for slot := range uint16(3) {
		r.add(offer(acme, "a", 1, slot, "orders"))
	}
	if _, _, err := r.Add(offer(acme, "a", 1, 3, "orders")); protocol.AsError(err).Code != limit.Code {
		t.Fatalf("a fourth link: %v, expected session_limit", err)
	}
	r.add(offer(acme, "a", 1, 2, "orders")) // in its old place
	b := r.add(offer(acme, "b", 1, 0, "orders"))
	if _, _, err := r.Add(offer(acme, "c", 1, 0, "orders")); protocol.AsError(err).Code != limit.Code {
		t.Fatalf("a third agent: %v, expected session_limit", err)
	}
	r.add(offer(evil, "c", 1, 0, "loot"))   // another identity
	r.add(offer(acme, "a", 2, 0, "orders")) // a restart takes the place of what it replaces
	r.Remove(b)
	r.add(offer(acme, "c", 1, 0, "orders"))
}

func TestReloadTakesTunnelsAwayAndGivesThemBack(t *testing.T) { // R02
	r := newRig(t, nil)
	l := r.add(offer(acme, "a", 1, 0, "orders", "ledger"))
	l.SetStatus(&protocol.TunnelStatus{Name: "orders", Up: false, Sentence: "connection refused"})
	r.Reload(ownedBy(map[protocol.TunnelName]certs.ID{"orders": evil, "ledger": acme}))
	r.wantCandidates("orders")
	r.wantCandidates("ledger", l)
	if l.Serves("orders") || !strings.Contains(r.log.String(), `"tunnel":"orders"`) {
		t.Error("orders was not taken away with a line in the log")
	}
	r.Reload(ownedBy(map[protocol.TunnelName]certs.ID{"orders": acme}))
	r.wantCandidates("orders", l)
	r.wantCandidates("ledger")
	if l.Up("orders") {
		t.Error("the backend's status was lost by the reload")
	}
}

func TestStatusFollowsWhatTheAgentSays(t *testing.T) {
	r := newRig(t, nil)
	l := r.add(offer(acme, "a", 1, 0, "orders", "orders", "loot"))
	if !l.Up("orders") {
		t.Fatal("a backend is up until the agent says otherwise")
	}
	l.SetStatus(&protocol.TunnelStatus{Name: "orders", Sentence: "connection refused"})
	l.SetStatus(&protocol.TunnelStatus{Name: "unheard-of"})
	s := r.Snapshot()[0]
	want := []registry.TunnelStatus{
		{Name: "orders", Accepted: true, Sentence: "connection refused"},
		{Name: "loot"},
	}
	if !slices.Equal(s.Tunnels, want) {
		t.Fatalf("tunnels are %+v, expected %+v", s.Tunnels, want)
	}
	l.SetStatus(&protocol.TunnelStatus{Name: "orders", Up: true})
	if !l.Up("orders") {
		t.Fatal("the backend is up again, and Up says no")
	}
}
