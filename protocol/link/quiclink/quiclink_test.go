package quiclink_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuiclinkKeepsThePromisesOfALink(t *testing.T) {
	linktest.Run(t, linktest.Harness{New: func(t *testing.T, client, server link.Config) linktest.Pair {
		network := &silence{}
		c, s := sessions(t, network.through, client, server)
		return linktest.Pair{Client: c, Server: s, Vanish: network.begin}
	}})
}

// sessions returns both ends of a link over loopback, and through via where that is given.
func sessions(t testing.TB, via func(testing.TB, string) string, client, server link.Config) (c, s link.Session) {
	t.Helper()
	serverConf, clientConf := linktest.TLSConfigs(t)
	target, accept := listen(t, serverConf, quiclink.QUICConfig(server))
	if via != nil {
		target = via(t, target)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := quiclink.Dial(ctx, target, "relay.test", clientConf, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(nil) })
	s = quiclink.Server(accept(ctx), server)
	t.Cleanup(func() { s.Close(nil) })
	return c, s
}

func listen(t testing.TB, tlsConf *tls.Config, conf *quic.Config) (addr string, accept func(context.Context) *quic.Conn) {
	t.Helper()
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: quiclink.Prepare(socket.(*net.UDPConn))}
	ln, err := transport.Listen(tlsConf, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ln.Close()
		_ = transport.Close()
		_ = socket.Close()
	})
	return socket.LocalAddr().String(), func(ctx context.Context) *quic.Conn {
		t.Helper()
		conn, err := ln.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}
