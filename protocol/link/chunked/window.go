package chunked

import (
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// busyPeriod is how fast half a window must be consumed for the window to grow: longer than any round trip that a
// window could be too small for (a satellite's is 600 ms, two halves a round trip), so a stream's window comes to hold
// about a second of what it carries, and slow streams leave the budget alone.
const busyPeriod = 500 * time.Millisecond

// window decides how much the peer may send. It always holds that granted plus what is buffered is at most size. It
// is not safe for concurrent use.
type window struct {
	size    int // bytes
	max     int
	granted int // bytes that the peer may still send
	grown   int // bytes of size that came from budget
	since   time.Time
	budget  *link.Budget
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
	if now.Sub(w.since) < busyPeriod && buffered <= w.size/4 && w.size < w.max {
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

// release returns to the budget what the window had taken.
func (w *window) release() {
	w.budget.Give(w.grown)
	w.size -= w.grown
	w.grown = 0
}
