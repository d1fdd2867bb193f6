package gateway

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// Dial carries a call of the relay's own to a tcp or udp tunnel: to a directory, say. A udp tunnel's connection carries
// datagrams. The call is decided, counted and recorded as any other, as a caller with the identity as, which the tunnel's
// callers must let in. It is over with the connection's Close, and breaks off when ctx ends. The error is a *protocol.Error.
func (g *Gateway) Dial(ctx context.Context, network protocol.Network, tunnel protocol.TunnelName, as certs.ID) (net.Conn, error) {
	c := g.begin(ctx, nil, Proof{})
	c.network = network
	if err := c.decide(local{tunnel, as}); err != nil {
		c.ended(err)
		c.finish()
		return nil, err
	}
	conn := &ownCall{call: c, over: c.runs()}
	var err error
	if c.grant, err = g.grants.of(tunnel, c.decision.Principal, c.began); err == nil {
		conn.Stream, _, err = g.cfg.Router.Open(c.ctx, c.open(), nil)
	}
	if err != nil {
		c.ended(err)
		conn.end()
		return nil, err
	}
	if network == protocol.UDP {
		return packets(conn), nil
	}
	return conn, nil
}

// ownCall is the relay's end of a call of its own.
type ownCall struct {
	link.Stream
	call    *call
	over    func()
	once    sync.Once
	in, out atomic.Int64
}

func (c *ownCall) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c *ownCall) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// Close ends the call: both directions, as a TCP connection's does.
func (c *ownCall) Close() error {
	err := c.CloseWrite()
	c.once.Do(func() {
		if err != nil {
			c.Reset(link.CodeCanceled)
		}
		_ = c.Stream.Close()
		c.call.carried(c.out.Load(), c.in.Load(), nil)
		c.end()
	})
	return nil
}

func (c *ownCall) end() {
	c.over()
	c.call.finish()
}

// address stands for either end: there is none that would say anything.
type address string

func (address) Network() string  { return "fairlead" }
func (a address) String() string { return string(a) }

func (c *ownCall) LocalAddr() net.Addr  { return address("relay") }
func (c *ownCall) RemoteAddr() net.Addr { return address(c.call.tunnelName()) }
