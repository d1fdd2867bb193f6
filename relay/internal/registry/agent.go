package registry

import (
	"iter"
	"slices"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

// Two processes with one identity and name that throw each other out this often are served both.
const (
	takeovers       = 3
	takeoversWithin = 30 * time.Second
	// rememberedEpochs bounds an agent's history: a process that crashes in a loop has a new epoch each time.
	rememberedEpochs = 16
)

type agentKey struct {
	id   certs.ID
	name string
}

type slotKey struct {
	transport string
	slot      uint16
}

func (l *Link) agentKey() agentKey { return agentKey{l.Agent, l.Name} }
func (l *Link) slotKey() slotKey   { return slotKey{l.Transport, l.Slot} }

// agent is everything known of one identity and name.
type agent struct {
	sessions map[uint64]map[slotKey]*Link // by epoch; none is empty
	past     []takeover                   // oldest first
	shared   bool                         // several epochs are served side by side
}

// takeover says that a process had to give way.
type takeover struct {
	epoch  uint64 // of the process that gave way
	remote string // where it was
	at     time.Time
}

// place puts a link into its slot and returns those that give way: the slot's former link, and every link of an
// older epoch. r.mu is held.
func (r *Registry) place(l *Link) (replaced []*Link, err error) {
	key := l.agentKey()
	a := r.agents[key]
	if a == nil {
		a = &agent{sessions: make(map[uint64]map[slotKey]*Link)}
	}
	if a.sessions[l.Epoch] == nil && len(a.sessions) > 0 && !a.shared {
		if rival, ok := a.alternates(l.Epoch); ok {
			a.shared = true
			r.log.Error("two agents use one identity and name; both are served", "security", true,
				"code", protocol.DuplicateAgent.String(), "agent", l.Agent.String(), "name", l.Name,
				"remote", l.remote(), "other_remote", rival)
		}
	}
	if err := r.room(a, l); err != nil {
		return nil, err
	}
	r.agents[key] = a
	if !a.shared {
		replaced = r.takeOver(a, l)
	}
	session := a.sessions[l.Epoch]
	if session == nil {
		session = make(map[slotKey]*Link)
		a.sessions[l.Epoch] = session
		r.sessions[l.Agent]++
	}
	if old := session[l.slotKey()]; old != nil {
		r.unlist(old)
		replaced = append(replaced, old)
	}
	heard := l.Transport == Lane // a lane says nothing
	for key, sibling := range session {
		heard = heard || sibling.Transport != Lane && key != l.slotKey()
	}
	for _, sibling := range session {
		l.share(sibling, !heard)
	}
	session[l.slotKey()] = l
	relate(session)
	return replaced, nil
}

// room checks the limits as they will be once the link has replaced what it replaces. r.mu is held.
func (r *Registry) room(a *agent, l *Link) error {
	if session, ok := a.sessions[l.Epoch]; ok {
		if _, ok := session[l.slotKey()]; !ok && len(session) >= r.cfg.LinksPerSession {
			return protocol.Errorf(protocol.SessionLimit, "at most %d links of one agent are admitted", r.cfg.LinksPerSession)
		}
		return nil
	}
	after := r.sessions[l.Agent] + 1
	if !a.shared {
		after -= len(a.sessions)
	}
	if after > r.cfg.SessionsPerAgent {
		return protocol.Errorf(protocol.SessionLimit, "at most %d agents of one identity are admitted", r.cfg.SessionsPerAgent)
	}
	return nil
}

// takeOver removes every link of an epoch other than l's. r.mu is held.
func (r *Registry) takeOver(a *agent, l *Link) (replaced []*Link) {
	for epoch, session := range a.sessions {
		if epoch == l.Epoch {
			continue
		}
		gone := takeover{epoch: epoch, at: time.Now()}
		for _, old := range session {
			gone.remote = old.remote()
			r.unlist(old)
			replaced = append(replaced, old)
		}
		delete(a.sessions, epoch)
		r.sessions[l.Agent]--
		if len(a.past) == rememberedEpochs {
			a.past = a.past[1:]
		}
		a.past = append(a.past, gone)
	}
	return replaced
}

// alternates reports whether a process that comes now has given way before (so it lives, as a crashed one does not)
// in a row of takeovers that is too quick for restarts. rival is where the process was that it would throw out.
func (a *agent) alternates(epoch uint64) (rival string, yes bool) {
	recent := 1 // this one
	for _, t := range a.past {
		if time.Since(t.at) <= takeoversWithin {
			recent++
		}
	}
	back := slices.ContainsFunc(a.past, func(t takeover) bool { return t.epoch == epoch })
	if !back || recent < takeovers {
		return "", false
	}
	for l := range a.links() {
		rival = l.remote()
	}
	return rival, true
}

// displace takes a link out of its slot, if it is still there: an older link's late end must not take the newer one
// with it. r.mu is held.
func (r *Registry) displace(l *Link) {
	a := r.agents[l.agentKey()]
	if a == nil || a.sessions[l.Epoch][l.slotKey()] != l {
		return
	}
	delete(a.sessions[l.Epoch], l.slotKey())
	if len(a.sessions[l.Epoch]) > 0 {
		return
	}
	delete(a.sessions, l.Epoch)
	if r.sessions[l.Agent]--; r.sessions[l.Agent] == 0 {
		delete(r.sessions, l.Agent)
	}
	if len(a.sessions) <= 1 {
		a.shared, a.past = false, nil
	}
	if len(a.sessions) == 0 {
		delete(r.agents, l.agentKey())
	}
}

// links walks all links of an agent.
func (a *agent) links() iter.Seq[*Link] {
	return func(yield func(*Link) bool) {
		for _, session := range a.sessions {
			for _, l := range session {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// links returns all links. r.mu is held.
func (r *Registry) links() []*Link {
	var all []*Link
	for _, a := range r.agents {
		all = slices.AppendSeq(all, a.links())
	}
	return all
}
