package login

import (
	"sync"
	"time"
)

// Remembered are those who have shown a second factor, for as long as that counts. It outlives reloads. The zero value is ready;
// it is safe for concurrent use.
type Remembered struct {
	// mu guards: until when; when the young generation is full it becomes the old one, which is dropped.
	mu         sync.Mutex
	young, old map[string]time.Time
}

// Has reports whether somebody is remembered.
func (r *Remembered) Has(who string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.young[who]
	if !ok {
		until = r.old[who]
	}
	return now.Before(until)
}

// Keep remembers somebody.
func (r *Remembered) Keep(who string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= maxUsers {
		r.old, r.young = r.young, make(map[string]time.Time)
	}
	r.young[who] = until
}
