package yamuxlink

import (
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/chunked"
)

// carrier takes one stream's chunks to yamux, by way of the session's outbox.
type carrier struct {
	session *Session
	stream  *chunked.Stream
	opener  bool // this side opened it
	express bool // the session's first stream: it does not queue behind bulk

	// mux is nil until the sending goroutine has opened it, which alone writes to it, and alone sets it (under mu).
	mux *yamux.Stream

	// mu guards:
	mu      sync.Mutex
	stopped bool // the session has ended
	dropped bool // by a reset of either side: what is queued is not sent
	reset   *uint16
	credit  uint32 // to be granted
	parts   int    // of the yamux stream that live: our direction, the peer's
}

// past is a deadline that has expired.
var past = time.Unix(1, 0)

var _ chunked.Carrier = (*carrier)(nil)

// Data implements chunked.Carrier.
func (c *carrier) Data(p []byte, stop, expired <-chan struct{}) bool {
	gate := c.session.out.gate
	if c.express {
		gate = c.session.out.express
	}
	select {
	case gate <- struct{}{}:
	case <-stop:
		return false
	case <-expired:
		return false
	}
	chunk := writeBuffers.Get().(*[]byte)
	*chunk = link.AppendData((*chunk)[:0], p)
	if !c.session.out.put(item{kind: itemData, carrier: c, chunk: chunk, express: c.express}, c.express) {
		<-gate
		writeBuffers.Put(chunk)
		return false
	}
	return true
}

// End implements chunked.Carrier.
func (c *carrier) End() { c.session.out.put(item{kind: itemEnd, carrier: c}, c.express) }

// Reset implements chunked.Carrier.
func (c *carrier) Reset(code uint16) {
	c.mu.Lock()
	c.dropped = true
	c.reset = &code
	c.mu.Unlock()
	c.session.out.put(item{kind: itemReset, carrier: c}, true)
}

// Credit implements chunked.Carrier. What has not left yet is added up.
func (c *carrier) Credit(bytes uint32) {
	c.mu.Lock()
	queued := c.credit > 0
	c.credit += bytes
	c.mu.Unlock()
	if !queued {
		c.session.out.put(item{kind: itemCredit, carrier: c}, true)
	}
}

// Release implements chunked.Carrier.
func (c *carrier) Release(aborted bool) {
	c.session.forget(c)
	c.mu.Lock()
	byReset := c.reset != nil
	c.dropped = c.dropped || aborted
	c.mu.Unlock()
	if !byReset { // which finishes by itself
		c.session.out.put(item{kind: itemFinish, carrier: c}, c.express)
	}
}

func (c *carrier) takeCredit() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.credit
	c.credit = 0
	return n
}

func (c *carrier) isDropped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

func (c *carrier) resetCode() uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.reset
}

// setMux keeps the yamux stream, or ends it where the session has ended meanwhile.
func (c *carrier) setMux(mux *yamux.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mux = mux
	if c.stopped {
		_ = mux.SetDeadline(past)
	}
}

// stopMux ends what reads from and writes to the yamux stream.
func (c *carrier) stopMux() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.mux != nil {
		_ = c.mux.SetDeadline(past) // never fails
	}
}

// partEnded says that one direction of the yamux stream has ended; the second one makes yamux forget it.
func (c *carrier) partEnded() {
	c.mu.Lock()
	c.parts--
	last := c.parts == 0
	c.mu.Unlock()
	if last {
		c.session.untrack(c)
	}
}
