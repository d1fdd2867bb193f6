package route

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// search walks the links of a tunnel for one call: the best one first, none twice.
type search struct {
	router *Router
	tunnel protocol.TunnelName
	tried  []*registry.Link
	left   []instance      // agents that have refused: their other links would say the same
	last   *protocol.Error // what the caller hears where no link is left
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
	return &search{router: r, tunnel: tunnel, last: protocol.Errorf(protocol.NoAgent, "no agent serves the tunnel now")}
}

// next returns the link to try now: of two agents picked at random among the best graded, the one with fewer calls,
// and its best link. It returns nil where nothing is left to try. The candidates are read anew each time, since links
// come and go.
func (s *search) next() *registry.Link {
	if len(s.tried) == maxTries {
		return nil
	}
	agents := s.choices()
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

// failed takes in why the call failed on l.
func (s *search) failed(l *registry.Link, fault *protocol.Error) {
	s.last = fault
	switch fault.Code {
	case protocol.StreamLimit, protocol.LinkLost, protocol.Draining: // that link's own trouble
	default:
		s.left = append(s.left, instanceOf(l))
	}
}

// choices returns the agents of the best grade that have something to offer.
func (s *search) choices() []choice {
	byAgent := make(map[instance]*choice)
	for _, l := range s.router.registry.Candidates(s.tunnel) {
		who := instanceOf(l)
		if slices.Contains(s.tried, l) || slices.Contains(s.left, who) {
			continue
		}
		c := byAgent[who]
		if c == nil {
			c = &choice{}
			byAgent[who] = c
		}
		c.calls += l.Calls()
		if g := grade(l, s.tunnel); c.best == nil || better(l, g, c) {
			c.best, c.grade = l, g
		}
	}
	var best []choice
	for _, c := range byAgent {
		if len(best) > 0 && c.grade < best[0].grade {
			best = best[:0]
		}
		if len(best) == 0 || c.grade == best[0].grade {
			best = append(best, *c)
		}
	}
	return best
}

// grade is lower the better: a link that answers before a suspect one, a backend that is up before one that is down.
func grade(l *registry.Link, tunnel protocol.TunnelName) (g int) {
	if l.Suspect() {
		g += 2
	}
	if !l.Up(tunnel) {
		g++
	}
	return g
}

// better reports whether l, of grade g, goes before the agent's best so far: by grade, TCP before QUIC (design §6:
// QUIC stands by), then by running calls.
func better(l *registry.Link, g int, c *choice) bool {
	return cmp.Or(cmp.Compare(g, c.grade), cmp.Compare(standby(l), standby(c.best)), cmp.Compare(l.Calls(), c.best.Calls())) < 0
}

func standby(l *registry.Link) int {
	if l.Transport == "quic" {
		return 1
	}
	return 0
}
