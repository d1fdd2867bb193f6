package yamuxlink

import (
	"sync"

	"github.com/fairlead/fairlead/protocol/link"
)

const (
	// gateSlots is how many data chunks of all streams may wait for the socket: what a ping or a reset overtakes,
	// and what the one in front of it is worth. 64 KiB together.
	gateSlots = 4
	// expressSlots is the same for the first stream, which carries pings and has a way of its own.
	expressSlots = 2

	writeBufferSize = link.ChunkHeaderSize + link.WriteSize
)

// writeBuffers hold one data chunk each, on its way to yamux.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeBufferSize); return &b }}

type itemKind uint8

const (
	itemOpen itemKind = iota
	itemData
	itemEnd
	itemReset
	itemCredit
	itemFinish // nothing follows in our direction: yamux may forget it
)

// item is one thing to be written for one stream.
type item struct {
	kind    itemKind
	carrier *carrier
	chunk   *[]byte // of itemData, from writeBuffers
	express bool
}

// outbox holds what waits to be written. Data needs a slot first, so it is bounded by the slots; each other kind is
// there at most once a stream.
type outbox struct {
	gate, express chan struct{}
	wake          chan struct{} // holds a token when something may wait

	// mu guards:
	mu      sync.Mutex
	control []item // goes first
	bulk    []item
	closed  bool
}

func newOutbox() *outbox {
	return &outbox{
		gate:    make(chan struct{}, gateSlots),
		express: make(chan struct{}, expressSlots),
		wake:    make(chan struct{}, 1),
	}
}

// put queues it; false when the outbox is closed.
func (o *outbox) put(it item, first bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	if first {
		o.control = append(o.control, it)
	} else {
		o.bulk = append(o.bulk, it)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// next takes the item that is to be written next.
func (o *outbox) next() (item, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if it, ok := pop(&o.control); ok {
		return it, true
	}
	return pop(&o.bulk)
}

// endOf takes the end that follows right behind c's data, so that both leave in one write.
func (o *outbox) endOf(c *carrier) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue := &o.bulk
	if c.express {
		queue = &o.control
	}
	if len(*queue) == 0 || (*queue)[0].carrier != c || (*queue)[0].kind != itemEnd {
		return false
	}
	_, ok := pop(queue)
	return ok
}

func pop(queue *[]item) (item, bool) {
	q := *queue
	if len(q) == 0 {
		return item{}, false
	}
	it := q[0]
	q[0] = item{}
	if *queue = q[1:]; len(q) == 1 {
		*queue = nil // do not creep through memory
	}
	return it, true
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.control, o.bulk = nil, nil
}
