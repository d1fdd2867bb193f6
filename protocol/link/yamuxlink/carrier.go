package yamuxlink

import (
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/chunked"
)

// carrier takes one stream's chunks to the connection. yamux opened or accepted the stream, and ends it.
type carrier struct {
	session *Session
	stream  *chunked.Stream
	mux     *yamux.Stream
	id      uint32 // mux's
	opener  bool   // this side opened it

	// the sender's mu guards:
	turn   turn
	sealed bool // nothing is sent any more, for a reset of either side or because both directions have ended

	// mu guards:
	mu    sync.Mutex
	parts int // of the yamux stream that live: our direction, the peer's
}

// past is a deadline that has expired.
var past = time.Unix(1, 0)

var _ chunked.Carrier = (*carrier)(nil)

// Data implements chunked.Carrier.
func (c *carrier) Data(p []byte, stop, expired <-chan struct{}) int {
	return c.session.conn.writeData(c, p, stop, expired)
}

// End implements chunked.Carrier.
func (c *carrier) End() {
	var b [link.ChunkHeaderSize]byte
	c.session.conn.writeControl(c, link.AppendEnd(b[:0]), false, false)
}

// Reset implements chunked.Carrier.
func (c *carrier) Reset(code uint16) {
	var b [link.ChunkHeaderSize + 2]byte
	c.session.conn.writeControl(c, link.AppendReset(b[:0], code), false, true)
}

// Credit implements chunked.Carrier. It overtakes data.
func (c *carrier) Credit(bytes uint32) {
	var b [link.ChunkHeaderSize + 4]byte
	c.session.conn.writeControl(c, link.AppendCredit(b[:0], bytes), true, false)
}

// RTT implements chunked.Carrier.
func (c *carrier) RTT() time.Duration { return c.session.rtt() }

// Release implements chunked.Carrier.
func (c *carrier) Release(bool) {
	c.session.conn.seal(c)
	c.session.forget(c)
	c.session.finish(c)
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
