package yamuxlink_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestYamuxlinkKeepsThePromisesOfALink(t *testing.T) {
	linktest.Run(t, linktest.Harness{New: func(t *testing.T, client, server link.Config) linktest.Pair {
		network := &silence{}
		c, s := sessions(t, network.through, client, server)
		return linktest.Pair{Client: c, Server: s, Vanish: network.begin}
	}})
}

func sessions(t testing.TB, via func(testing.TB, string) string, client, server link.Config) (c, s link.Session) {
	t.Helper()
	clientConn, serverConn := tlsPair(t, via)
	c, err := yamuxlink.Client(clientConn, client, link.Info{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(nil) })
	s, err = yamuxlink.Server(serverConn, server, link.Info{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(nil) })
	return c, s
}
