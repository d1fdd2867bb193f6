package chunked

import (
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// A window grows while half of it is consumed within periodRounds round trips: it comes to hold some eight times what
// is under way, and no more of the budget or of the processor's cache. The period is at least minPeriod, for pauses of
// the two systems, and at most busyPeriod, which holds where the round trip is unknown too.
const (
	periodRounds = 4
	minPeriod    = time.Millisecond
	busyPeriod   = 500 * time.Millisecond
)

// window decides how much the peer may send. It always holds that granted plus what is buffered is at most size. It
// is not safe for concurrent use.
type window struct {
	size    int // bytes
	max     int
	granted int // bytes that the peer may still send
	grown   int // bytes of size that came from budget
	since   time.Time
	budget  *link.Budget
	rtt     func() time.Duration // nil or 0: unknown
}

func newWindow(initial, maxSize int, budget *link.Budget) window {
	return window{size: initial, max: maxSize, granted: initial, since: time.Now(), budget: budget}
}

// arrived takes n bytes off what was granted; false where the peer sent more.
func (w *window) arrived(n int) bool {
	if n > w.granted {
		return false
	}
	w.granted -= n
	return true
}

// consumed returns how many bytes to grant now that so many are left in the buffer: none until half the window has
// been read. A window that was read that fast, by a reader that keeps up, doubles as long as the budget admits.
func (w *window) consumed(buffered int) int {
	if w.size-w.granted-buffered < w.size/2 {
		return 0
	}
	now := time.Now()
	if took := now.Sub(w.since); took < busyPeriod && took < w.period() && buffered <= w.size/4 && w.size < w.max {
		if more := min(w.size, w.max-w.size); w.budget.Take(more) {
			w.size += more
			w.grown += more
		}
	}
	w.since = now
	grant := w.size - w.granted - buffered
	w.granted += grant
	return grant
}

func (w *window) period() time.Duration {
	if w.rtt == nil {
		return busyPeriod
	}
	rtt := w.rtt()
	if rtt == 0 {
		return busyPeriod
	}
	return max(periodRounds*rtt, minPeriod)
}

// release returns to the budget what the window had taken.
func (w *window) release() {
	w.budget.Give(w.grown)
	w.size -= w.grown
	w.grown = 0
}
