// Package limit bounds what strangers may cost: how many connections may be open that have not proved who they are,
// in all and per source, and how often one source may fail to prove it.
//
// It knows addresses and counts only; it closes nothing, and it does not limit calls (package gateway does).
package limit

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Config holds the limits; the zero value of each field means its default.
type Config struct {
	Unproved          int     // unproved connections at one time, in all; default 512
	UnprovedPerSource int     // and per source; default 32
	FailuresPerSecond float64 // failed or unproved connections per source; default 20
	FailureBurst      int     // and how many at once; default 40
	Sources           int     // sources remembered; default 16,384: some 4 MiB
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Unproved, 512)
	def(&c.UnprovedPerSource, 32)
	def(&c.FailureBurst, 40)
	def(&c.Sources, 16<<10)
	if c.FailuresPerSecond == 0 {
		c.FailuresPerSecond = 20
	}
	return c
}

// Gate admits connections that have not proved themselves. It is safe for concurrent use and never blocks.
type Gate struct {
	cfg Config

	// mu guards: everything below.
	mu      sync.Mutex
	open    int
	sources map[netip.Prefix]*list.Element // of *source
	recent  *list.List                     // most recently used first
}

// source is what is known of one Source.
type source struct {
	prefix   netip.Prefix
	open     int
	failures *rate.Limiter
}

// New returns a gate that has admitted nobody yet.
func New(cfg Config) *Gate {
	return &Gate{cfg: cfg.withDefaults(), sources: make(map[netip.Prefix]*list.Element), recent: list.New()}
}

// Admit asks for room for one unproved connection from addr. Where it says ok, the caller calls release once the
// connection has proved itself (true), or has ended or failed without (false: it is charged to the source). Later
// calls of release do nothing. The zero Addr counts in all but is charged to no source: that is for addresses which
// may be forged, so that nobody can use up another's share.
func (g *Gate) Admit(addr netip.Addr) (release func(proved bool), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.cfg.Unproved {
		return nil, false
	}
	var s *source
	if addr.IsValid() {
		s = g.sourceOf(addr)
		// Every open connection may still fail, so each of them holds one failure in reserve; a success gives it
		// back by not taking it. (A rate.Reservation cannot be given back once its time has come.)
		if s.open >= g.cfg.UnprovedPerSource || s.failures.Tokens() < float64(s.open+1) {
			return nil, false
		}
		s.open++
	}
	g.open++
	var once sync.Once
	return func(proved bool) { once.Do(func() { g.release(s, proved) }) }, true
}

func (g *Gate) release(s *source, proved bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if s == nil {
		return
	}
	s.open--
	if !proved {
		s.failures.AllowN(time.Now(), 1)
	}
}

// Unproved counts the connections admitted and neither proved nor released.
func (g *Gate) Unproved() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// Source is what counts as one source: an IPv4 address, or the /64 of an IPv6 address, which is what a single customer has. It is
// zero where there is no address.
func Source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // cannot fail: the length fits the family and there is no zone
	return prefix
}

// sourceOf finds or makes addr's source and marks it as used last. g.mu is held.
func (g *Gate) sourceOf(addr netip.Addr) *source {
	prefix := Source(addr)
	if e, ok := g.sources[prefix]; ok {
		g.recent.MoveToFront(e)
		return e.Value.(*source)
	}
	if g.recent.Len() >= g.cfg.Sources {
		g.forgetOldest()
	}
	s := &source{prefix: prefix, failures: rate.NewLimiter(rate.Limit(g.cfg.FailuresPerSecond), g.cfg.FailureBurst)}
	g.sources[prefix] = g.recent.PushFront(s)
	return s
}

// forgetOldest drops the source used longest ago that has nothing open. Those with something open are at most
// Config.Unproved, so the map stays bounded even where all of them are skipped.
func (g *Gate) forgetOldest() {
	for e := g.recent.Back(); e != nil; e = e.Prev() {
		if s := e.Value.(*source); s.open == 0 {
			g.recent.Remove(e)
			delete(g.sources, s.prefix)
			return
		}
	}
}
