package front

import (
	"crypto/tls"
	"net"
	"sync"
)

// handover is the listener of the callers' http.Server: connections come to it with their handshake done, as the bare
// *tls.Conn without which net/http knows no HTTP/2.
type handover struct {
	addr  net.Addr
	conns chan *tls.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan *tls.Conn), done: make(chan struct{})}
}

// put hands a connection over; where the server has ended it is closed instead.
func (h *handover) put(c *tls.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }
