package chunked

import (
	"sync"
	"time"
)

// deadline is a point in time that closes a channel, and can be moved. It follows net.Pipe's.
type deadline struct {
	// mu guards:
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{}
}

func newDeadline() deadline { return deadline{expired: make(chan struct{})} }

// set moves the deadline; the zero time is never. Whoever waits on an older channel is woken by an expiry only, and
// looks again.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the old timer has fired and is about to close this channel
	}
	d.timer = nil
	if isClosed(d.expired) {
		if !t.IsZero() && time.Until(t) <= 0 {
			return
		}
		d.expired = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	expired := d.expired
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(expired) })
		return
	}
	close(expired)
}

// channel is closed when the deadline has passed.
func (d *deadline) channel() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

// stop lets go of the timer; the deadline does not pass any more.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && d.timer.Stop() {
		d.timer = nil
	}
}
