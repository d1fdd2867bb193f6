package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// maxLocal bounds the connections of one door. Who may connect at all, a unix socket's file mode says.
const maxLocal = 1024

// Local is the door to one tunnel for callers on the relay's own host: a unix socket or a loopback port, in plaintext,
// where every call acts as one SPIFFE ID. An http tunnel is spoken to in HTTP/1.1 or unencrypted HTTP/2, a tcp tunnel
// in its own bytes.
type Local struct {
	gateway *Gateway
	door    local
	network protocol.Network
}

// Local makes the door of a tunnel. The rules are asked for each call, so a reload counts.
func (g *Gateway) Local(tunnel protocol.TunnelName, network protocol.Network, as certs.ID) *Local {
	return &Local{gateway: g, door: local{tunnel: tunnel, as: as}, network: network}
}

// Serve serves ln until ctx ends, and returns when every call has ended; calls still running then are cut off.
// It closes ln.
func (l *Local) Serve(ctx context.Context, ln net.Listener) error {
	ln = &bounded{Listener: ln, room: make(chan struct{}, maxLocal)}
	if l.network == protocol.HTTP {
		return l.serveHTTP(ctx, ln)
	}
	return l.serveRaw(ctx, ln)
}

// ServeHTTP answers one request of an http tunnel.
func (l *Local) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.gateway.serve(w, r, Proof{}, l.door)
}

func (l *Local) serveHTTP(ctx context.Context, ln net.Listener) error {
	// calls is held for reading by each call, and in the end for ever by us: whoever comes later gets no more in.
	var calls sync.RWMutex
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !calls.TryRLock() {
				panic(http.ErrAbortHandler)
			}
			defer calls.RUnlock()
			l.ServeHTTP(w, r)
		}),
		Protocols: protocols, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 60 * time.Second, MaxHeaderBytes: 32 << 10,
		DisableGeneralOptionsHandler: true, ErrorLog: l.gateway.proxyLog,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(ln)
	if ctx.Err() != nil {
		err = nil
	}
	err = errors.Join(err, ignoreClosed(server.Close()))
	calls.Lock()
	return err
}

func (l *Local) serveRaw(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(fmt.Errorf("accepting on the door of tunnel %s: %w", l.door.tunnel, err), ignoreClosed(ln.Close()))
		}
		calls.Go(func() { l.serveConn(ctx, conn.(*boundedConn)) }) // as Serve wrapped it
	}
}

// serveConn carries one connection of a tcp tunnel.
func (l *Local) serveConn(ctx context.Context, conn link.Duplex) {
	defer conn.Close()
	g := l.gateway
	c := g.begin(ctx, nil, Proof{})
	defer c.finish()
	if g.draining.Load() {
		c.ended(c.recorded(protocol.Errorf(protocol.Draining, "the relay is going away")))
		return
	}
	if err := c.decide(l.door); err != nil {
		c.ended(err)
		return
	}
	d := c.decision
	if !g.running.enter(d.Tunnel) {
		c.ended(protocol.Errorf(protocol.Overloaded, "the tunnel has as many calls as it may have"))
		return
	}
	defer g.running.leave(d.Tunnel)
	var err error
	if c.grant, err = g.grants.of(d.Tunnel.Name, d.Principal, c.began); err != nil {
		c.ended(err)
		return
	}
	defer c.runs()()
	c.carry(conn)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// bounded accepts no more connections at once than room has places; the others wait in the kernel.
type bounded struct {
	net.Listener
	room chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.room <- struct{}{}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	half, ok := conn.(halfCloser)
	if !ok {
		<-b.room
		return nil, errors.Join(fmt.Errorf("expected a connection that can end one direction, got %T", conn), conn.Close())
	}
	return &boundedConn{halfCloser: half, room: b.room}, nil
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	halfCloser
	room chan struct{}
	once sync.Once
}

func (c *boundedConn) Close() error {
	defer c.once.Do(func() { <-c.room })
	return c.halfCloser.Close()
}

// NetConn is the connection itself, which link.Splice cuts (TCP: by a reset) so that nobody takes the cut for an end.
func (c *boundedConn) NetConn() net.Conn { return c.halfCloser }
