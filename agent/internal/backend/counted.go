package backend

import (
	"crypto/tls"
	"net"
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

// counter finds the countedConn below a connection of the pool.
func counter(c net.Conn) *countedConn {
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	cc, _ := c.(*countedConn)
	return cc
}
