package memlink_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/memlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemlinkKeepsThePromisesOfALink(t *testing.T) {
	linktest.Run(t, linktest.Harness{New: func(_ *testing.T, client, server link.Config) linktest.Pair {
		c, s := memlink.Pair(client, server)
		return linktest.Pair{Client: c, Server: s, Vanish: c.Vanish}
	}})
}
