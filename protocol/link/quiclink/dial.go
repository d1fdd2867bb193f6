package quiclink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"

	"github.com/fairlead/fairlead/protocol/link"
)

// Dial connects to addr ("ip:port", resolved already) over a UDP socket of its own, which ends with the session.
// tlsConf brings the ALPN and the checks; serverName is used where it names none. It blocks for the handshake, at most
// until ctx ends.
func Dial(ctx context.Context, addr, serverName string, tlsConf *tls.Config, cfg link.Config) (*Session, error) {
	remote, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("expected ip:port: %w", err)
	}
	network := "udp4"
	if remote.Addr().Unmap().Is6() {
		network = "udp6"
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, ":0")
	if err != nil {
		return nil, fmt.Errorf("opening a UDP socket: %w", err)
	}
	socket := Prepare(conn.(*net.UDPConn))
	transport := &quic.Transport{Conn: socket}
	closeSocket := func() {
		_ = transport.Close() // waits for its reader; its only error is the socket's
		_ = socket.Close()
	}
	if tlsConf.ServerName == "" {
		tlsConf = tlsConf.Clone()
		tlsConf.ServerName = serverName
	}
	q, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())), tlsConf, QUICConfig(cfg))
	if err != nil {
		closeSocket()
		return nil, fmt.Errorf("dialing %s over QUIC: %w", addr, err)
	}
	return newSession(q, closeSocket, socket.Buffers()), nil
}
