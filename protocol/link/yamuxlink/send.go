package yamuxlink

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

const (
	// maxBulk is how many bytes of frames with data may be on their way to the kernel, of all streams together: what
	// a ping or a reset can find in front of it, and the most that one system call takes. Four TLS records.
	maxBulk = 64 << 10
	// maxExpress is the same for the first stream, which carries pings and has a way of its own.
	maxExpress = 32 << 10
	// maxOut is from where yamux's frames wait. Those of an honest peer's streams are less.
	maxOut = 512 << 10
	// keepOut is what an output buffer may have grown to and still be used again.
	keepOut = 128 << 10

	// expressID is the number of the first stream of the end that dialled.
	expressID = 1
)

type outBuffer struct{ b []byte }

var outBuffers = sync.Pool{New: func() any { return &outBuffer{make([]byte, 0, maxBulk+1<<10)} }}

// sender is frameConn's way out: two queues of whole frames, and whoever writes them. A Write of a record or more
// writes by itself where nobody else does and the socket is a corked one: no goroutine is woken for it. Everything
// else, and what the socket does not take at once, is flush's: frames that come close together leave together.
type sender struct {
	sock *socket.Conn // under TLS, corked; nil where there is none

	// mu guards:
	mu      sync.Mutex
	work    sync.Cond  // for flush
	room    sync.Cond  // for yamux's writer
	first   *outBuffer // what goes before out; nil when empty, as out is
	out     *outBuffer
	express gate
	bulk    gate
	writing bool // somebody writes, or must: see blocked
	blocked bool // the socket holds what it could not send at once, which flush sends
	closed  bool
}

func (c *sender) begin(sock *socket.Conn) {
	c.work.L, c.room.L = &c.mu, &c.mu
	c.express.room, c.bulk.room = maxExpress, maxBulk
	if c.sock = sock; sock != nil {
		sock.Cork()
	}
}

// queue returns the queue of a stream's frames, which keeps their order.
func (c *sender) queue(id uint32) **outBuffer {
	if id == expressID {
		return &c.first
	}
	return &c.out
}

// add returns the queue's buffer to append to.
func add(queue **outBuffer) *outBuffer {
	if *queue == nil {
		*queue = outBuffers.Get().(*outBuffer)
	}
	return *queue
}

func appendFrame(b []byte, id uint32, length int) []byte {
	b = append(b, 0, frameData, 0, 0)
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint32(b, uint32(length)) //nolint:gosec // at most a chunk's
}

// writeData queues p in chunks, waiting for room, and returns how much of it. It writes nothing of a stream that is
// sealed.
func (c *frameConn) writeData(s *carrier, p []byte, stop, expired <-chan struct{}) int {
	g := &c.bulk
	if s.id == expressID {
		g = &c.express
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(p) && !c.closed && !s.sealed {
		piece := p[n:min(n+link.WriteSize, len(p))]
		size := frameHeaderSize + link.ChunkHeaderSize + len(piece)
		if !g.enter(size) && !c.await(g, &s.turn, size, stop, expired) {
			break
		}
		if c.closed || s.sealed {
			g.leave(size)
			break
		}
		out := add(c.queue(s.id))
		out.b = link.AppendData(appendFrame(out.b, s.id, link.ChunkHeaderSize+len(piece)), piece)
		g.queued += size
		n += len(piece)
	}
	c.kick(len(p) >= link.WriteSize)
	return n
}

// await waits at the gate; false when it gave up. It is called with mu, which it releases meanwhile.
func (c *frameConn) await(g *gate, t *turn, size int, stop, expired <-chan struct{}) bool {
	g.wait(t, size)
	c.kick(true)
	c.mu.Unlock()
	entered := false
	select {
	case <-t.ready:
		entered = true
	case <-stop:
	case <-expired:
	}
	c.mu.Lock()
	if !entered && !g.abandon(t) { // it was let through meanwhile
		<-t.ready
		g.leave(size)
	}
	return entered
}

// writeControl queues a chunk of a stream that needs no room: an end, a reset or a credit, each at most once a stream
// or a half window. Nothing follows on the stream where it is the last one.
func (c *frameConn) writeControl(s *carrier, chunk []byte, first, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || s.sealed {
		return
	}
	s.sealed = last
	queue := c.queue(s.id)
	if first {
		queue = &c.first
	}
	out := add(queue)
	out.b = append(appendFrame(out.b, s.id, len(chunk)), chunk...)
	c.kick(false)
}

// Write implements io.Writer, for yamux's one writing goroutine, which brings whole frames without data.
func (c *frameConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out != nil && len(c.out.b) > maxOut && !c.closed {
		c.room.Wait()
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	out := add(c.queue(binary.BigEndian.Uint32(p[4:])))
	out.b = append(out.b, p...)
	c.kick(false)
	return len(p), nil
}

// kick sees to it that what is queued is written: here, where that is asked for and cannot block, or by flush. It is
// called with mu, which it may release meanwhile.
func (c *frameConn) kick(here bool) {
	switch {
	case c.writing || c.closed || c.first == nil && c.out == nil: // who writes looks again
	case here && c.sock != nil:
		c.writeQueued()
	default:
		c.work.Signal()
	}
}

// flush writes what kick leaves to it until the connection is closed.
func (c *frameConn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return
		case c.blocked:
			c.blocked = false
			c.mu.Unlock()
			err := c.flushSocket()
			c.mu.Lock()
			c.written(err)
		case !c.writing && (c.first != nil || c.out != nil):
			c.writeQueued()
		default:
			c.work.Wait()
		}
	}
}

// writeQueued writes what is queued; it is called with mu, which it releases meanwhile.
func (c *frameConn) writeQueued() {
	c.writing = true
	batch, rest := c.first, c.out
	if batch == nil {
		batch, rest = rest, nil
	}
	c.first, c.out = nil, nil
	c.express.taken, c.express.queued = c.express.queued, 0
	c.bulk.taken, c.bulk.queued = c.bulk.queued, 0
	c.mu.Unlock()
	if rest != nil {
		batch.b = append(batch.b, rest.b...)
		rest.free()
	}
	done, err := c.writeOut(batch.b)
	batch.free()
	c.mu.Lock()
	if err == nil && !done {
		c.blocked = true
		c.work.Signal()
		return
	}
	c.written(err)
}

func (b *outBuffer) free() {
	if cap(b.b) <= keepOut {
		b.b = b.b[:0]
		outBuffers.Put(b)
	}
}

// written ends what writeQueued began. It is called with mu. After an error nobody writes any more.
func (c *frameConn) written(err error) {
	if err != nil {
		c.mu.Unlock()
		c.ended(err)
		c.mu.Lock()
		return
	}
	c.writing = false
	c.express.leave(c.express.taken)
	c.bulk.leave(c.bulk.taken)
	c.room.Broadcast()
	if c.first != nil || c.out != nil {
		c.work.Signal()
	}
}

// writeOut hands a batch to TLS; done says that nothing of it waits in the socket, which it may where that is corked.
func (c *frameConn) writeOut(batch []byte) (done bool, err error) {
	if c.sock != nil {
		if _, err := c.Conn.Write(batch); err != nil {
			return false, err
		}
		return c.sock.TryFlush()
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return false, err
	}
	_, err = c.Conn.Write(batch)
	return true, err
}

// flushSocket sends what the socket holds. The deadline must not outlast it, or TryFlush would fail by it.
func (c *frameConn) flushSocket() error {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if err := c.sock.Flush(); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}

// seal lets nothing more of a stream out.
func (c *frameConn) seal(s *carrier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sealed = true
}
