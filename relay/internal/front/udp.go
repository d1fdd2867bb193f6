package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

// guest is the QUIC connection's count among the strangers.
type guest struct {
	source  netip.AddrPort
	release func(proved bool)
}

type guestKey struct{}

func guestOf(c *quic.Conn) guest { return c.Context().Value(guestKey{}).(guest) }

// listenQUIC opens the QUIC side. One config serves agents and callers, since it is chosen before the ALPN is known.
func (f *Front) listenQUIC() error {
	resetKey := quic.StatelessResetKey(f.cfg.ResetKey)
	f.transport = &quic.Transport{
		Conn:              f.udp,
		StatelessResetKey: &resetKey,
		VerifySourceAddress: func(net.Addr) bool {
			return f.cfg.Strangers.Unproved() >= f.cfg.QUICUnvalidated
		},
		ConnContext: f.admitQUIC,
	}
	cfg := quiclink.QUICConfig(f.cfg.Link)
	cfg.MaxIncomingUniStreams = 8 // HTTP/3's control and QPACK streams (RFC 9114 §6.2); links open none
	cfg.HandshakeIdleTimeout = f.cfg.HandshakeTimeout
	ln, err := f.transport.Listen(f.dispatch(f.web3), cfg)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	f.quic = ln
	return nil
}

// admitQUIC counts a connection attempt before any cryptography is spent on it.
func (f *Front) admitQUIC(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	source := unmap(info.RemoteAddr.(*net.UDPAddr).AddrPort())
	release, ok := f.cfg.Strangers.Admit(source.Addr())
	if !ok {
		f.cfg.Refused(ReasonLimit)
		return nil, errLimit
	}
	// ctx ends with the connection, or when its handshake fails; where it proved itself this does nothing.
	context.AfterFunc(ctx, func() { release(false) })
	return context.WithValue(ctx, guestKey{}, guest{source, release}), nil
}

func (f *Front) acceptQUIC(ctx, links, requests context.Context) error {
	for {
		c, err := f.quic.Accept(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, quic.ErrServerClosed):
			return nil
		case err != nil:
			return fmt.Errorf("accepting over QUIC: %w", err)
		}
		f.conns.Go(func() { f.serveQUIC(links, requests, c) })
	}
}

func (f *Front) serveQUIC(links, requests context.Context, c *quic.Conn) {
	guest := guestOf(c)
	defer guest.release(false) // nothing, where it proved itself
	if c.ConnectionState().TLS.NegotiatedProtocol == protocol.ALPN {
		s := quiclink.Server(c, f.cfg.Link)
		f.cfg.Agent(links, s, func() { guest.release(true) })
		s.Close(nil)
		return
	}
	hangUp := func() { _ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") } // never twice to the peer
	defer context.AfterFunc(requests, hangUp)()
	if err := f.http3.ServeQUICConn(c); err != nil {
		f.log.Debug("HTTP/3 connection ended", "remote", guest.source.String(), "error", err)
	}
	hangUp()
}

// wantBuffer is what QUIC wants of a UDP socket, in bytes; the kernel's default loses packets at speed.
const wantBuffer = 7 << 20

// checkBuffers asks for larger UDP buffers and says once what is missing, with the cure.
func (f *Front) checkBuffers() {
	err := errors.Join(f.udp.SetReadBuffer(wantBuffer), f.udp.SetWriteBuffer(wantBuffer))
	if got := receiveBuffer(f.udp); err != nil || got > 0 && got < wantBuffer {
		f.log.Warn("UDP buffers are small, QUIC will lose packets under load", "receive_bytes", got, "wanted_bytes", wantBuffer,
			"cure", "sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000", "error", err)
	}
}
