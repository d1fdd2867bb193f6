package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

const (
	// maxProxied bounds the connections whose PROXY header has not come: until then their source is not known.
	maxProxied = 512
	// Accept fails when file descriptors run out: waiting is all that helps.
	minAcceptPause, maxAcceptPause = 5 * time.Millisecond, time.Second
)

func (f *Front) acceptTCP() error {
	outer, pause := f.outer("h2", "http/1.1"), minAcceptPause
	for {
		conn, err := f.tcp.AcceptTCP()
		switch {
		case err == nil:
			pause = minAcceptPause
			f.admitTCP(conn, outer)
		case f.accepting.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting on %s: %w", f.tcp.Addr(), err)
		default:
			f.log.Warn("accepting a connection failed", "error", err)
			select {
			case <-time.After(pause):
			case <-f.accepting.Done():
			}
			pause = min(2*pause, maxAcceptPause)
		}
	}
}

// admitTCP never blocks: strangers beyond the limits are cut off before anything is spent on them.
func (f *Front) admitTCP(conn *net.TCPConn, outer *tls.Config) {
	source := unmapped(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
	if slices.ContainsFunc(f.cfg.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(source.Addr()) }) {
		select {
		case f.proxies <- struct{}{}:
			f.conns.Go(func() { f.serveProxied(conn, source, outer) })
		default:
			cutOff(conn)
		}
		return
	}
	if s := f.seatTCP(conn, source); s != nil {
		f.conns.Go(func() { f.serveTCP(s, outer, time.Now().Add(f.cfg.HandshakeTimeout)) })
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// cutOff closes without a handshake of the transport's own, which would cost the kernel a minute of memory.
func cutOff(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// seatTCP finds a place among the strangers, or cuts the connection off.
func (f *Front) seatTCP(conn *net.TCPConn, source netip.AddrPort) *admitted {
	release, ok := f.cfg.Strangers.Admit(source.Addr())
	if !ok {
		f.log.Debug("too many strangers", "remote", source.String())
		cutOff(conn)
		return nil
	}
	return &admitted{TCPConn: conn, source: source, seat: newSeat(release)}
}

// serveProxied reads the PROXY header first: the source that it names is what the limits count.
func (f *Front) serveProxied(conn *net.TCPConn, proxy netip.AddrPort, outer *tls.Config) {
	deadline := time.Now().Add(f.cfg.HandshakeTimeout)
	source, err := f.readProxy(conn, deadline)
	<-f.proxies
	if err != nil {
		f.log.Warn("connection of a proxy refused", "remote", proxy.String(), "error", err)
		cutOff(conn)
		return
	}
	if !source.IsValid() {
		source = proxy
	}
	if s := f.seatTCP(conn, source); s != nil {
		f.serveTCP(s, outer, deadline)
	}
}

func (f *Front) readProxy(conn *net.TCPConn, deadline time.Time) (netip.AddrPort, error) {
	stop := context.AfterFunc(f.accepting, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return netip.AddrPort{}, err
	}
	source, err := readProxyHeader(conn)
	return source, errors.Join(err, conn.SetReadDeadline(time.Time{}))
}

// serveTCP shakes hands and hands the connection to its kind's server.
func (f *Front) serveTCP(s *admitted, outer *tls.Config, deadline time.Time) {
	conn := tls.Server(socket.Wrap(s), outer)
	ctx, cancel := context.WithDeadline(f.accepting, deadline)
	err := conn.HandshakeContext(ctx)
	cancel()
	if err != nil {
		f.refusedHandshake(s.source, "tcp", s.agent, err)
		_ = s.Close()
		return
	}
	s.seat.expire(f.cfg.ProveTimeout, func() {
		f.log.Debug("connection has not proved itself in time", "remote", s.source.String())
		_ = s.Close()
	})
	state := conn.ConnectionState()
	f.shook("tcp", &state)
	info := link.Info{Transport: "tcp", Local: s.LocalAddr(), Remote: s.RemoteAddr(), TLS: state}
	options := socket.Options{Congestion: f.cfg.Congestion}
	if state.NegotiatedProtocol == protocol.ALPN || state.NegotiatedProtocol == protocol.ALPNLane {
		options.Unsent = socket.LinkUnsent
	}
	if err := socket.Tune(s, options); err != nil {
		f.log.Warn("tuning a socket failed", "remote", s.source.String(), "error", err)
	}
	switch state.NegotiatedProtocol {
	case protocol.ALPN:
	case protocol.ALPNLane:
		f.cfg.Lane(f.agents, conn, info, s.seat.proved)
		_ = s.Close()
		return
	case protocol.ALPNEnroll:
		f.cfg.Enroll(f.agents, conn)
		_ = s.Close()
		return
	default:
		f.handed.put(conn)
		return
	}
	session, err := yamuxlink.Server(conn, f.cfg.Link, info)
	if err != nil {
		f.log.Error("beginning a link failed", "remote", s.source.String(), "error", err)
		return
	}
	f.serveAgent(session, s.seat)
}

func (f *Front) serveAgent(session link.Session, seat *seat) {
	f.cfg.Agent(f.agents, session, seat.proved)
	session.Close(nil)
}

// refusedHandshake logs loudly what an agent, or one who wants to be one, did wrong. Other strangers' noise is debug.
func (f *Front) refusedHandshake(source netip.AddrPort, transport string, agent bool, err error) {
	level, reason := slog.LevelDebug, "tls"
	if e, ok := errors.AsType[*certs.VerifyError](err); ok {
		level, reason = slog.LevelWarn, string(e.Reason)
	} else if agent && !errors.Is(err, net.ErrClosed) {
		level = slog.LevelWarn
	}
	// The text may quote the hello: %.500s keeps a line a line, and slog escapes.
	f.log.Log(context.Background(), level, "handshake refused", "remote", source.String(), "transport", transport,
		"agent", agent, "reason", reason, "error", fmt.Sprintf("%.500s", err))
}
