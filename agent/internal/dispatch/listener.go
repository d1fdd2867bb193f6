package dispatch

import (
	"context"
	"net"
	"sync"
)

// listener hands exchanges to the http.Server as if they had been accepted.
type listener struct {
	conns chan *exchange
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan *exchange), done: make(chan struct{})}
}

// hand blocks until the server has taken x, ctx ends, or the listener is closed; it reports whether x was taken.
func (l *listener) hand(ctx context.Context, x *exchange) bool {
	select {
	case l.conns <- x:
		return true
	case <-ctx.Done():
	case <-l.done:
	}
	return false
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case x := <-l.conns:
		return x, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return addr{} }

// addr stands for both ends of a stream, which have no address of their own.
type addr struct{}

func (addr) Network() string { return "fairlead" }
func (addr) String() string  { return "stream" }
