// Package memlink is a link in memory, for tests: two sessions joined by a wire that can be cut without a sound. It
// starts no goroutines and blocks on channels alone, so that it works in a testing/synctest bubble. Streams, windows,
// limits and the chunks on the wire are those of the real links over TCP.
//
// It has no bandwidth, delay or loss, and authenticates nobody.
package memlink

import (
	"sync"

	"github.com/fairlead/fairlead/protocol/link"
)

// Pair returns the two ends of a link; each config bounds what that end receives. Both must agree on InitialWindow.
func Pair(client, server link.Config) (*Session, *Session) {
	w := &wire{}
	c := newSession(w, client, addr("client"), addr("server"))
	s := newSession(w, server, addr("server"), addr("client"))
	c.peer, s.peer = s, c
	return c, s
}

type addr string

func (addr) Network() string  { return "memory" }
func (a addr) String() string { return string(a) }

// wire delivers events, both ways, in the order in which they were sent.
type wire struct {
	// mu guards:
	mu       sync.Mutex
	queue    []func()
	silent   bool
	draining bool
}

// send queues an event and delivers what it can. Another goroutine may be delivering already: it takes this one too.
func (w *wire) send(deliver func()) {
	w.mu.Lock()
	w.queue = append(w.queue, deliver)
	w.mu.Unlock()
	w.drain()
}

// setSilent stops or resumes delivery; what was sent meanwhile arrives then.
func (w *wire) setSilent(silent bool) {
	w.mu.Lock()
	w.silent = silent
	w.mu.Unlock()
	w.drain()
}

// drain runs the events without the lock, because they send others.
func (w *wire) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.draining {
		return
	}
	w.draining = true
	for len(w.queue) > 0 && !w.silent {
		deliver := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		w.mu.Unlock()
		deliver()
		w.mu.Lock()
	}
	w.draining = false
}
