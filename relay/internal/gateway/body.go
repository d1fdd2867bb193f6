package gateway

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// limitBody bounds a request's body in size (zero: none) and, where its length was announced, in slowness: whoever
// knows how much it has can also send it. A body of unknown length may be a stream that waits.
func (c *call) limitBody(control *http.ResponseController, r *http.Request) io.ReadCloser {
	body, l := io.ReadCloser(&movingBody{r.Body, &c.still, &c.up}), c.gateway.cfg.Limits
	if r.ContentLength > 0 && l.MinBodyRate > 0 {
		body = &steadyBody{
			ReadCloser: body, control: control, late: &c.late,
			grace: l.MinBodyGrace, rate: int64(l.MinBodyRate),
		}
	}
	if limit := c.decision.Tunnel.Body; limit > 0 {
		// Without the writer, whose header it would touch from the goroutine that reads the body.
		body = http.MaxBytesReader(nil, body, limit)
	}
	return body
}

// steadyBody counts only the time that it waits for the caller, so that a slow backend is not the caller's fault.
type steadyBody struct {
	io.ReadCloser
	control *http.ResponseController
	grace   time.Duration
	rate    int64 // bytes a second
	got     int64
	waited  time.Duration

	// late is set before the read is cut, for the cut ends the request's context as well: net/http takes every error
	// of a read for a caller who is gone.
	late *atomic.Bool

	// mu guards:
	mu      sync.Mutex
	waiting bool
}

func (b *steadyBody) Read(p []byte) (int, error) {
	began := time.Now()
	b.wait(true)
	clock := time.AfterFunc(b.grace+b.earned()-b.waited, b.cut)
	n, err := b.ReadCloser.Read(p)
	clock.Stop()
	b.wait(false)
	b.got += int64(n)
	b.waited += time.Since(began)
	return n, err
}

// earned is how long what has come may have taken. It is bounded, so that no body is long enough to overflow it.
func (b *steadyBody) earned() time.Duration {
	return time.Duration(min(b.got/b.rate, 1<<32)) * time.Second
}

func (b *steadyBody) wait(waiting bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = waiting
}

// cut ends the read that waits, if one still does.
func (b *steadyBody) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting {
		b.late.Store(true)
		_ = b.control.SetReadDeadline(time.Unix(1, 0)) // every server here can
	}
}
