package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

// conn is an accepted TCP connection under its TLS. Its remote address is the one that PROXY v2 gave, where it is
// believed.
type conn struct {
	*net.TCPConn
	source  netip.AddrPort
	release func(proved bool) // the first call counts
	agent   atomic.Bool       // its hello offered protocol.ALPN
}

func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.source) }

// acceptPause is how long accepting rests when the process has no descriptors left: the kernel keeps the connection.
const acceptPause = 50 * time.Millisecond

func (f *Front) acceptTCP(ctx, links context.Context) error {
	cfg := f.dispatch(f.web)
	for {
		raw, err := f.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			if err == nil {
				return raw.Close()
			}
			return nil
		case err != nil:
			f.log.Error("connection not accepted", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		f.conns.Go(func() { f.serveTCP(links, raw.(*net.TCPConn), cfg) })
	}
}

// serveTCP owns raw until it is closed, or the callers' server has it.
func (f *Front) serveTCP(links context.Context, raw *net.TCPConn, cfg *tls.Config) {
	c, err := f.admit(raw)
	if err != nil {
		f.log.Debug("connection refused", "remote", raw.RemoteAddr().String(), "error", err)
		_ = raw.Close() // a stranger's; there is nobody to tell
		return
	}
	t := tls.Server(c, cfg)
	if err := f.handshake(links, t); err != nil {
		c.release(false)
		f.refused(c, err)
		_ = raw.Close()
		return
	}
	if t.ConnectionState().NegotiatedProtocol != protocol.ALPN {
		f.callers.hand(t)
		return
	}
	defer c.release(false) // nothing, where it proved itself
	s, err := yamuxlink.Server(t, f.cfg.Link, link.Info{Transport: "tcp", Local: t.LocalAddr(), Remote: t.RemoteAddr(), TLS: t.ConnectionState()})
	if err != nil {
		f.log.Error("link not begun", "remote", c.source.String(), "error", err)
		return
	}
	f.cfg.Agent(links, s, func() { c.release(true) })
	s.Close(nil)
}

var errLimit = errors.New("too many unproved connections or failed handshakes")

// admit reads the PROXY header where one is due, and counts the connection as a stranger's.
func (f *Front) admit(raw *net.TCPConn) (*conn, error) {
	c := &conn{TCPConn: raw, source: unmap(raw.RemoteAddr().(*net.TCPAddr).AddrPort())}
	for _, prefix := range f.cfg.ProxyFrom {
		if !prefix.Contains(c.source.Addr()) {
			continue
		}
		if err := raw.SetReadDeadline(time.Now().Add(f.cfg.HandshakeTimeout)); err != nil {
			return nil, err
		}
		source, err := readProxyHeader(raw)
		if err != nil {
			f.cfg.Refused(ReasonProxy)
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
		if source.IsValid() {
			c.source = unmap(source)
		}
		break
	}
	release, ok := f.cfg.Strangers.Admit(c.source.Addr())
	if !ok {
		f.cfg.Refused(ReasonLimit)
		return nil, errLimit
	}
	c.release = release
	return c, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func (f *Front) handshake(ctx context.Context, t *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HandshakeTimeout)
	defer cancel()
	if err := t.SetDeadline(time.Now().Add(f.cfg.HandshakeTimeout)); err != nil { // a PROXY header had its own
		return err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	return t.SetDeadline(time.Time{})
}

// refused logs a failed handshake: an agent's at a level that somebody sees, a stranger's not.
func (f *Front) refused(c *conn, err error) {
	f.cfg.Refused(ReasonHandshake)
	if c.agent.Load() {
		f.log.Warn("agent refused at the handshake", "remote", c.source.String(), "transport", "tcp", "error", err)
		return
	}
	f.log.Debug("handshake failed", "remote", c.source.String(), "error", err)
}
