package backend

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// countedConn counts what was handed to the kernel, so that a failed request can be told from one that was never
// sent, and what came from it, so that an answer can be told from what had come before its request.
type countedConn struct {
	Conn
	written atomic.Int64
	reads   atomic.Int64 // that gave something
	before  atomic.Int64 // reads, when the request of now began to be written
	unsent  atomic.Bool  // the request of now has not begun
}

// begin is called when the connection is taken for a request over HTTP/1.
func (c *countedConn) begin() { c.unsent.Store(true) }

// early reports whether nothing has come since the request of now was begun: what is read now was sent before it, to
// somebody else.
func (c *countedConn) early() bool { return c.unsent.Load() || c.reads.Load() == c.before.Load() }

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.reads.Add(1)
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	if c.unsent.Load() {
		c.before.Store(c.reads.Load())
		c.unsent.Store(false)
	}
	// Counted before, so that no byte is on its way uncounted, and corrected where it did not go.
	c.written.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n - len(p)))
	return n, err
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom is what net/http sends request bodies with; without it, io.Copy would allocate a buffer for each.
func (c *countedConn) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{c}, r, buf[:])
}

// counter finds the countedConn below a connection of the pool.
func counter(c net.Conn) *countedConn {
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	cc, _ := c.(*countedConn)
	return cc
}
