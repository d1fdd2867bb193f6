// Package registry knows which agents are connected: their links, the tunnels that each link may serve, and which link
// gives way when an agent comes back.
//
// It does not dial, ping or choose among links (package route does), and it believes the identity it is given.
package registry

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// Owns says whether the configuration lets agent serve tunnel. A tunnel that does not exist is owned by nobody.
type Owns func(tunnel protocol.TunnelName, agent certs.ID) bool

// Config is what New needs; the zero value of each limit means its default.
type Config struct {
	Owns Owns
	Log  *slog.Logger

	// SessionsPerAgent bounds the processes that may be connected under one SPIFFE ID at a time; default 8. A
	// session is one agent name and epoch, with all its links.
	SessionsPerAgent int
	// LinksPerSession bounds the links of one of them; default 16: three transports (lanes are one link) over several
	// addresses of one relay fit, twice, since a reload of the agent makes new ones before the old ones end.
	LinksPerSession int
}

// Registry holds the links. It is safe for concurrent use.
type Registry struct {
	cfg Config
	log *slog.Logger

	// mu guards: everything below. The slices in byTunnel are replaced, never changed, so that a reader may keep one.
	mu       sync.RWMutex
	owns     Owns
	byTunnel map[protocol.TunnelName][]*Link
	agents   map[agentKey]*agent
	sessions map[certs.ID]int

	lanes sync.Mutex // held, before mu, while a lane finds its session

	measured sync.Mutex // guards: totals. It is taken last.
	totals   map[string]link.Stats

	closing sync.WaitGroup // links that gave way and are being closed
}

// New returns a registry without links.
func New(cfg Config) (*Registry, error) {
	if cfg.Owns == nil || cfg.Log == nil {
		return nil, errors.New("registry: expected Owns and Log to be set")
	}
	if cfg.SessionsPerAgent == 0 {
		cfg.SessionsPerAgent = 8
	}
	if cfg.LinksPerSession == 0 {
		cfg.LinksPerSession = 16
	}
	return &Registry{
		cfg: cfg, log: cfg.Log, owns: cfg.Owns,
		byTunnel: make(map[protocol.TunnelName][]*Link),
		agents:   make(map[agentKey]*agent),
		sessions: make(map[certs.ID]int),
		totals:   make(map[string]link.Stats),
	}, nil
}

// Offer is a link that has said Hello.
type Offer struct {
	Session link.Session
	Agent   certs.ID // as the handshake proved it
	Name    string
	Epoch   uint64
	Slot    uint16
	Tunnels []protocol.TunnelName
	Tokens  []protocol.TunnelName // of them, those whose calls must bring their caller's own token

	// Suspect says whether the link has stopped answering; RTT is its round trip, zero while unknown. Both may be
	// nil, and must not block.
	Suspect func() bool
	RTT     func() time.Duration
}

// Add takes a link in and says which of its tunnels it may serve, in the order offered. Links that it replaces are
// gone from the candidates at once, and are closed in the background. An error is a *protocol.Error with SessionLimit,
// and the link was not taken in. Whoever adds a link calls Remove when it has ended.
func (r *Registry) Add(o Offer) (*Link, []protocol.TunnelVerdict, error) {
	l := newLink(o)
	r.mu.Lock()
	replaced, err := r.place(l)
	if err != nil {
		r.mu.Unlock()
		return nil, nil, err
	}
	l.accepted.Store(new(r.accept(l)))
	r.list(l)
	r.mu.Unlock()

	for _, old := range replaced {
		r.closing.Go(func() {
			old.Session.Close(protocol.Errorf(protocol.DuplicateAgent, "the agent has connected again"))
		})
	}
	return l, r.judged(l), nil
}

// AddLane finds the session that a lane belongs to: o's slot holds it where the agent's lanes have been here before,
// else it is made by begin, and added as a link. first says so. The verdicts are those of the first lane.
func (r *Registry) AddLane(o Offer, begin func() link.Session) (l *Link, verdicts []protocol.TunnelVerdict, first bool, err error) {
	r.lanes.Lock() // so that two first lanes make one session
	defer r.lanes.Unlock()
	r.mu.RLock()
	if a := r.agents[agentKey{o.Agent, o.Name}]; a != nil {
		l = a.sessions[o.Epoch][slotKey{Lane, o.Slot}]
	}
	r.mu.RUnlock()
	if l != nil && l.Session.Err() == nil {
		return l, l.verdicts(), false, nil
	}
	o.Session = begin()
	l, verdicts, err = r.Add(o)
	if err != nil {
		o.Session.Close(err)
	}
	return l, verdicts, true, err
}

// Judge takes in that a link has stopped answering, or answers again. Lanes have no voice of their own: they are
// suspect while every TCP link of their session is.
func (r *Registry) Judge(l *Link) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.agents[l.agentKey()]; a != nil {
		relate(a.sessions[l.Epoch])
	}
}

// relate sets what a session's lanes take from its other links.
func relate(session map[slotKey]*Link) {
	voices, suspect := 0, 0
	for _, l := range session {
		if l.Transport == "tcp" {
			voices++
			if l.Suspect() {
				suspect++
			}
		}
	}
	for _, l := range session {
		if l.Transport == Lane {
			l.doubted.Store(voices > 0 && suspect == voices)
		}
	}
}

// Doubt says that l has died of silence: lanes of its session that give no sign of life end with it.
func (r *Registry) Doubt(l *Link, cause error) {
	r.mu.RLock()
	var lanes []*Link
	if a := r.agents[l.agentKey()]; a != nil {
		for _, other := range a.sessions[l.Epoch] {
			if other.Transport == Lane {
				lanes = append(lanes, other)
			}
		}
	}
	r.mu.RUnlock()
	for _, other := range lanes {
		if d, ok := other.Session.(interface{ Doubt(cause error) }); ok {
			d.Doubt(cause)
		}
	}
}

// Remove forgets a link that has ended; a link that took its place stays. Later calls only take in what it has carried
// since.
func (r *Registry) Remove(l *Link) {
	r.account(l, l.Stats())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlist(l)
	r.displace(l)
	if a := r.agents[l.agentKey()]; a != nil {
		relate(a.sessions[l.Epoch])
	}
}

// Candidates returns the links that may serve a tunnel, suspect ones and those whose backend is down included. The
// links of one agent process stand beside each other. The slice is shared: the caller does not change it.
func (r *Registry) Candidates(tunnel protocol.TunnelName) []*Link {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byTunnel[tunnel]
}

// Reload judges every link again by new rules: it loses the tunnels that its agent no longer owns, and gets those it
// had offered and owns now. Running calls go on.
func (r *Registry) Reload(owns Owns) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owns = owns
	for _, l := range r.links() {
		before := *l.accepted.Load()
		after := r.accept(l)
		r.unlist(l)
		l.accepted.Store(&after)
		r.list(l)
		var lost []protocol.TunnelName
		for name := range before {
			if _, ok := after[name]; !ok {
				lost = append(lost, name)
			}
		}
		r.notOwned(l, lost)
	}
}

// Wait returns when the links that gave way have been closed.
func (r *Registry) Wait() { r.closing.Wait() }

// accept judges what a link offers; a tunnel that it keeps keeps its status. r.mu is held.
func (r *Registry) accept(l *Link) map[protocol.TunnelName]*status {
	accepted := make(map[protocol.TunnelName]*status, len(l.offered))
	for _, name := range l.offered {
		if r.owns(name, l.Agent) {
			accepted[name] = l.statuses[name]
		}
	}
	return accepted
}

// list makes a link a candidate for its tunnels, behind the others of its process. r.mu is held.
func (r *Registry) list(l *Link) {
	for name := range *l.accepted.Load() {
		links := slices.Clip(r.byTunnel[name])
		at := len(links)
		for at > 0 && !l.sameProcess(links[at-1]) {
			at--
		}
		if at == 0 {
			at = len(links)
		}
		r.byTunnel[name] = slices.Insert(links, at, l)
	}
}

// unlist undoes list. r.mu is held.
func (r *Registry) unlist(l *Link) {
	for name := range *l.accepted.Load() {
		rest := slices.DeleteFunc(slices.Clone(r.byTunnel[name]), func(c *Link) bool { return c == l })
		if len(rest) == 0 {
			delete(r.byTunnel, name)
		} else {
			r.byTunnel[name] = rest
		}
	}
}

func (l *Link) verdicts() []protocol.TunnelVerdict {
	verdicts := make([]protocol.TunnelVerdict, 0, len(l.offered))
	for _, name := range l.offered {
		v := protocol.TunnelVerdict{Name: name}
		if !l.Serves(name) {
			v.Code, v.Sentence = protocol.TunnelNotOwned, "this identity may not serve the tunnel"
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// judged is verdicts, said to the log as well.
func (r *Registry) judged(l *Link) []protocol.TunnelVerdict {
	verdicts, foreign := l.verdicts(), []protocol.TunnelName{}
	for _, v := range verdicts {
		if v.Code != protocol.OK {
			foreign = append(foreign, v.Name)
		}
	}
	r.notOwned(l, foreign)
	return verdicts
}

// namedAtMost is how many tunnels one Hello gets a line of its own for; it may hold thousands of names.
const namedAtMost = 8

// notOwned is a security event: somebody with a good identity asks for calls that are not theirs.
func (r *Registry) notOwned(l *Link, tunnels []protocol.TunnelName) {
	who := []any{"agent", l.Agent.String(), "name", l.Name, "remote", l.remote()}
	log := r.log.With("security", true, "code", protocol.TunnelNotOwned.String())
	for i, tunnel := range tunnels {
		if i == namedAtMost {
			log.With("tunnels", len(tunnels)-i).Warn("agent does not own more tunnels that it offers", who...)
			return
		}
		log.With("tunnel", string(tunnel)).Warn("agent does not own the tunnel it offers", who...)
	}
}
