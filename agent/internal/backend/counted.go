package backend

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// countedConn counts what was handed to the kernel, so that a failed request can be told from one that was never
// sent.
type countedConn struct {
	Conn
	written atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
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
