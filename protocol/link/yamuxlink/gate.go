package yamuxlink

import "slices"

// A gate admits frames up to so many bytes, in the order in which they came, so that streams take turns. It has no lock
// of its own: sender's mu guards it and its turns.
type gate struct {
	room    int     // bytes that may still enter
	queued  int     // bytes that have entered and wait
	taken   int     // bytes that are being written
	waiting []*turn // first come, first served
}

// A turn is one stream's place in the queue before a gate.
type turn struct {
	size  int
	ready chan struct{} // holds a token when the frame has entered
}

// enter admits a frame where there is room and nobody waits.
func (g *gate) enter(size int) bool {
	if len(g.waiting) > 0 || g.room < size {
		return false
	}
	g.room -= size
	return true
}

// wait takes a place in the queue.
func (g *gate) wait(t *turn, size int) {
	if t.ready == nil {
		t.ready = make(chan struct{}, 1)
	}
	t.size = size
	g.waiting = append(g.waiting, t)
}

// leave gives room back, and lets in who waits for it.
func (g *gate) leave(size int) {
	g.room += size
	for len(g.waiting) > 0 && g.room >= g.waiting[0].size {
		t := g.waiting[0]
		g.room -= t.size
		g.waiting = slices.Delete(g.waiting, 0, 1)
		t.ready <- struct{}{}
	}
}

// abandon gives up a place; false where the frame has entered already.
func (g *gate) abandon(t *turn) bool {
	i := slices.Index(g.waiting, t)
	if i < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	g.leave(0) // a smaller one behind it may fit
	return true
}
