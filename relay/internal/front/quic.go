package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

// One quic.Config serves agents and strangers, for it is chosen before ALPN is known. What a stranger can make us hold
// is streams times their first window, 6.5 MiB a connection; a window grows only while what arrives is read. The
// connection's window is as large as agents need it.
const (
	// quicStreams is how many streams a peer may open: an agent opens one, a caller's each is a call.
	quicStreams = 100
	// quicUniStreams has room for HTTP/3's three.
	quicUniStreams = 8
	// quicWindow is a stream's first window, in bytes. Agents' links grow out of it in some round trips.
	quicWindow = 64 << 10
)

type seatKey struct{}

// quicSeat is a QUIC connection's seat, and its counts.
type quicSeat struct {
	*seat
	validated func() // its address is no forged one
}

func seatOf(c *quic.Conn) *seat { return c.Context().Value(seatKey{}).(*quicSeat).seat }

func (f *Front) listenQUIC() error {
	socket := quiclink.Prepare(f.udp)
	socket.Buffers().Report(f.log)
	f.buffers = socket.Buffers()
	f.transport = &quic.Transport{
		Conn:                socket,
		VerifySourceAddress: func(net.Addr) bool { return f.unvalidated.count() >= f.cfg.QUICUnvalidated },
		ConnContext:         f.admitQUIC,
	}
	if f.cfg.StatelessResetKey != [32]byte{} {
		f.transport.StatelessResetKey = (*quic.StatelessResetKey)(&f.cfg.StatelessResetKey)
	}
	cfg := quiclink.QUICConfig(f.cfg.Link)
	cfg.HandshakeIdleTimeout = f.cfg.HandshakeTimeout / 2 // quic-go gives the whole handshake twice this
	cfg.MaxIncomingStreams, cfg.MaxIncomingUniStreams = quicStreams, quicUniStreams
	cfg.InitialStreamReceiveWindow = min(cfg.InitialStreamReceiveWindow, quicWindow)
	cfg.Allow0RTT = false
	var err error
	if f.quic, err = f.transport.Listen(f.outer(http3.NextProtoH3), cfg); err != nil {
		return errors.Join(fmt.Errorf("listening for QUIC on %s: %w", f.udp.LocalAddr(), err), f.transport.Close())
	}
	return nil
}

var errTooManyStrangers = errors.New("too many strangers")

// admitQUIC is asked for each new connection, before its handshake. An address that has not been validated may be
// forged, so it is charged to nobody until the handshake is done.
func (f *Front) admitQUIC(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	// Beyond the strangers' common bound, because these may hold more.
	if f.unproved.count() >= 2*f.cfg.QUICUnvalidated {
		return nil, errTooManyStrangers
	}
	var source netip.Addr
	if info.AddrVerified {
		source = info.RemoteAddr.(*net.UDPAddr).AddrPort().Addr().Unmap()
	}
	release, ok := f.cfg.Strangers.Admit(source)
	if !ok {
		return nil, errTooManyStrangers
	}
	f.unproved.enter()
	validated := func() {}
	if !info.AddrVerified {
		f.unvalidated.enter()
		validated = sync.OnceFunc(f.unvalidated.leave)
	}
	s := &quicSeat{validated: validated, seat: newSeat(func(proved bool) {
		f.unproved.leave()
		validated()
		release(proved)
	})}
	ctx = context.WithValue(ctx, seatKey{}, s)
	context.AfterFunc(ctx, s.left) // quic-go ends ctx with the connection, also where the handshake fails
	return ctx, nil
}

func (f *Front) acceptQUIC() error {
	for {
		conn, err := f.quic.Accept(f.accepting)
		if err != nil {
			if f.accepting.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting QUIC on %s: %w", f.udp.LocalAddr(), err)
		}
		f.conns.Go(func() { f.serveQUIC(conn) })
	}
}

func (f *Front) serveQUIC(conn *quic.Conn) {
	s := conn.Context().Value(seatKey{}).(*quicSeat)
	s.validated()
	s.expire(f.cfg.ProveTimeout, func() {
		f.log.Debug("connection has not proved itself in time", "remote", conn.RemoteAddr().String())
		_ = conn.CloseWithError(0, "")
	})
	state := conn.ConnectionState().TLS
	f.shook("quic", &state)
	if state.NegotiatedProtocol == protocol.ALPN {
		f.serveAgent(quiclink.Server(conn, f.cfg.Link), s.seat)
		return
	}
	if state.NegotiatedProtocol != http3.NextProtoH3 { // what runs over TCP alone
		_ = conn.CloseWithError(0, "")
		return
	}
	if err := f.http3.ServeQUICConn(conn); err != nil {
		f.log.Debug("caller's connection ended", "remote", conn.RemoteAddr().String(), "error", fmt.Sprintf("%.500s", err))
	}
	_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
}
