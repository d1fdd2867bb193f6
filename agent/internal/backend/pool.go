package backend

import (
	"bufio"
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// pool keeps connections to a backend that speaks HTTP/1.1 without TLS. No goroutine waits on an idle one: before it is
// used again it is looked at, and one that has ended, or has said something unasked, is closed.
type pool struct {
	// mu guards:
	mu     sync.Mutex
	idle   []*pooledConn // the one used last is last
	sweep  *time.Timer   // nil while nothing is idle
	closed bool
}

// pooledConn carries one exchange at a time.
type pooledConn struct {
	*countedConn
	raw    syscall.RawConn
	br     *bufio.Reader // of its responses
	room   int64         // what a response's header may still take
	used   time.Time     // when it became idle
	reused bool
}

// Read counts the header of a response; the rest of it has no bound.
func (c *pooledConn) Read(p []byte) (int, error) {
	if c.room <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.countedConn.Read(p[:min(int64(len(p)), c.room)])
	c.room -= int64(n)
	return n, err
}

// abort closes the connection such that a backend that reads nothing hears of it: a clean end would wait behind what it
// was sent.
func (c *pooledConn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// take returns a connection that is fresh, or nil.
func (p *pool) take() *pooledConn {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if fresh(c.raw) {
			c.reused = true
			return c
		}
		_ = c.Close() // it has ended
	}
}

// put keeps a connection whose exchange is whole.
func (p *pool) put(c *pooledConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == idleConns {
		_ = c.Close() // nothing is left to be said on it
		return
	}
	c.used = time.Now()
	p.idle = append(p.idle, c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleTimeout, p.expire)
	}
}

// expire closes what has been idle for too long.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].used) >= idleTimeout {
		_ = p.idle[n].Close()
		n++
	}
	p.idle = append(p.idle[:0:0], p.idle[n:]...)
	p.sweep = nil
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(idleTimeout-time.Since(p.idle[0].used), p.expire)
	}
}

// close closes what is idle, and what will be.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
}

// connect dials a connection for the pool.
func (b *Backend) connect(ctx context.Context) (*pooledConn, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(syscall.Conn).SyscallConn() // *net.TCPConn and *net.UnixConn, as dial says
	if err != nil {
		conn.Close()
		return nil, &dialError{err}
	}
	c := &pooledConn{countedConn: &countedConn{Conn: conn}, raw: raw}
	c.br = bufio.NewReader(c)
	return c, nil
}
