package route

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// search walks the links of a tunnel for one call: the best one first, none twice.
type search struct {
	router *Router
	tunnel protocol.TunnelName
	last   *protocol.Error // nil: nothing was tried yet
	waited time.Duration   // for a lane

	// Of at most maxTries, so that the usual call allocates nothing for them.
	links  [maxTries]*registry.Link
	agents [maxTries]instance
	tried  []*registry.Link
	left   []instance // agents that have refused: their other links would say the same
}

// instance is one agent process.
type instance struct {
	id    certs.ID
	name  string
	epoch uint64
}

func instanceOf(l *registry.Link) instance { return instance{l.Agent, l.Name, l.Epoch} }

// choice is what one agent has to offer.
type choice struct {
	best  *registry.Link
	grade int
	calls int64 // on all its links
}

func (r *Router) search(tunnel protocol.TunnelName) *search {
	s := &search{router: r, tunnel: tunnel}
	s.tried, s.left = s.links[:0], s.agents[:0]
	return s
}

// fault is what the caller hears where no link is left.
func (s *search) fault() *protocol.Error {
	if s.last == nil {
		return protocol.Errorf(protocol.NoAgent, "no agent serves the tunnel now")
	}
	return s.last
}

// next returns the link to try now: of two agents picked at random among the best graded, the one with fewer calls,
// and its best link. It returns nil where nothing is left to try. The candidates are read anew each time, since links
// come and go. Where no link has room but an agent has lanes, it waits for a lane: until ctx ends, but laneWait at most.
func (s *search) next(ctx context.Context) *registry.Link {
	if len(s.tried) == maxTries {
		return nil
	}
	var few [8]choice
	agents := s.choices(few[:0])
	for ; s.waits(agents) && ctx.Err() == nil; agents = s.choices(few[:0]) {
		time.Sleep(lanePoll)
		s.waited += lanePoll
	}
	if len(agents) == 0 {
		return nil
	}
	i := rand.IntN(len(agents))
	if len(agents) > 1 {
		j := rand.IntN(len(agents) - 1)
		if j >= i {
			j++
		}
		if agents[j].calls < agents[i].calls {
			i = j
		}
	}
	l := agents[i].best
	s.tried = append(s.tried, l)
	return l
}

// waits reports whether none of the agents has room now, and one of them soon may: its lanes are busy, and it dials more.
func (s *search) waits(agents []choice) bool {
	return s.waited < laneWait && len(agents) > 0 && agents[0].grade >= full &&
		slices.ContainsFunc(agents, func(c choice) bool { return c.best.Full() })
}

// failed takes in why the call failed on l, the link that next has returned last.
func (s *search) failed(l *registry.Link, fault *protocol.Error) {
	s.last = fault
	if l.Transport == registry.Lane && errors.Is(fault, link.ErrStreamLimit) && l.Calls() < s.router.perLink && s.waited < laneWait {
		s.tried = s.tried[:len(s.tried)-1] // another call was quicker to the lane: the next free one is as good
		s.waited += lanePoll               // so that it ends
		return
	}
	switch fault.Code {
	case protocol.StreamLimit, protocol.LinkLost, protocol.Draining: // that link's own trouble
	default:
		s.left = append(s.left, instanceOf(l))
	}
}

// choices appends to best the agents of the best grade that have something to offer.
func (s *search) choices(best []choice) []choice {
	candidates := s.router.registry.Candidates(s.tunnel)
	for len(candidates) > 0 {
		who, links := instanceOf(candidates[0]), 1
		for links < len(candidates) && instanceOf(candidates[links]) == who {
			links++
		}
		c := s.choice(who, candidates[:links])
		candidates = candidates[links:]
		if c.best == nil {
			continue
		}
		if len(best) > 0 && c.grade < best[0].grade {
			best = best[:0]
		}
		if len(best) == 0 || c.grade == best[0].grade {
			best = append(best, c)
		}
	}
	return best
}

// choice is what an agent's links have to offer; without a best one, nothing.
func (s *search) choice(who instance, links []*registry.Link) (c choice) {
	if slices.Contains(s.left, who) {
		return c
	}
	for _, l := range links {
		if l.Vacant() || slices.Contains(s.tried, l) {
			continue
		}
		c.calls += l.Calls()
		if g := s.grade(l); c.best == nil || better(l, g, &c) {
			c.best, c.grade = l, g
		}
	}
	return c
}

// full is what a link without room is worse by than any that has some.
const full = 4

// grade is lower the better: a link that has room before one that is full, one that answers before a suspect one, a
// backend that is up before one that is down.
func (s *search) grade(l *registry.Link) (g int) {
	if l.Full() || l.Calls() >= s.router.perLink {
		g += full
	}
	if l.Suspect() {
		g += 2
	}
	if !l.Up(s.tunnel) {
		g++
	}
	return g
}

// better reports whether l, of grade g, goes before the agent's best so far: by grade, by transport (a lane first, QUIC last),
// then by running calls.
func better(l *registry.Link, g int, c *choice) bool {
	return cmp.Or(cmp.Compare(g, c.grade), cmp.Compare(l.Standby(), c.best.Standby()), cmp.Compare(l.Calls(), c.best.Calls())) < 0
}
