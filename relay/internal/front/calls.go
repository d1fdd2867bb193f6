package front

import (
	"context"
	"net/http"
	"sync"
)

// calls counts the handlers that run, hijacked connections included: net/http's own Shutdown forgets those.
type calls struct {
	// mu guards:
	mu      sync.Mutex
	running int
	waiting []chan struct{} // closed when running is zero
	closed  bool            // no call begins any more
}

// track runs h for each request, until wait has been called with the background's context.
func (c *calls) track(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.begin() {
			panic(http.ErrAbortHandler)
		}
		defer c.end()
		h.ServeHTTP(w, r)
	})
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running++
	return true
}

func (c *calls) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if c.running > 0 {
		return
	}
	for _, w := range c.waiting {
		close(w)
	}
	c.waiting = nil
}

// wait returns when no call runs or ctx has ended. A ctx that cannot end makes it the last wait: no call begins after.
func (c *calls) wait(ctx context.Context) {
	c.mu.Lock()
	c.closed = c.closed || ctx.Done() == nil
	if c.running == 0 {
		c.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	c.waiting = append(c.waiting, idle)
	c.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
