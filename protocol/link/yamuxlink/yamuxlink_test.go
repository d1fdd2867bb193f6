package yamuxlink_test

import (
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestYamuxlinkKeepsThePromisesOfALink(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"PlainSocket": nil, "CorkedSocket": corked} {
		t.Run(name, func(t *testing.T) {
			linktest.Run(t, linktest.Harness{New: func(t *testing.T, client, server link.Config) linktest.Pair {
				network := linktest.NewNetwork(t, true, wrap)
				c, s := sessions(t, network, client, server)
				return linktest.Pair{Client: c, Server: s, Vanish: network.Vanish}
			}})
		})
	}
}

// corked is what the product has under TLS.
func corked(c net.Conn) net.Conn { return socket.Wrap(c) }

func sessions(t testing.TB, network *linktest.Network, client, server link.Config) (c, s link.Session) {
	t.Helper()
	clientConn, serverConn, err := network.Connect()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = yamuxlink.Client(clientConn, client, link.Info{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(nil) })
	if s, err = yamuxlink.Server(serverConn, server, link.Info{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(nil) })
	return c, s
}
