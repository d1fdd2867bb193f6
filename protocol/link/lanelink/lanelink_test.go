package lanelink_test

import (
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLanelinkKeepsThePromisesOfALink(t *testing.T) {
	linktest.Run(t, linktest.Harness{Streams: lanes, New: func(t *testing.T, client, server link.Config) linktest.Pair {
		p := newPair(t, true, lanelink.Config{Config: client, DeadAfter: time.Second}, lanelink.Config{Config: server, DeadAfter: time.Second})
		p.keep(t, lanes)
		return linktest.Pair{Client: p.client, Server: p.server, Vanish: p.network.Vanish}
	}})
}

// lanes is how many of them each side may open streams on in the suite.
const lanes = 24

// pair is two ends of a session.
type pair struct {
	network        *linktest.Network
	client, server *lanelink.Session
}

func newPair(t testing.TB, vanishing bool, client, server lanelink.Config) *pair {
	t.Helper()
	p := &pair{
		network: linktest.NewNetwork(t, vanishing, func(c net.Conn) net.Conn { return socket.Wrap(c) }),
		client:  lanelink.New(client), server: lanelink.New(server),
	}
	t.Cleanup(func() {
		p.client.Close(nil)
		p.server.Close(nil)
	})
	return p
}

// add makes a lane on which one side may open streams.
func (p *pair) add(clientOpens bool) (client, server *lanelink.Lane, err error) {
	c, s, err := p.network.Connect()
	if err != nil {
		return nil, nil, err
	}
	for _, conn := range []net.Conn{c, s} {
		if err := socket.Tune(socket.Under(conn), socket.Options{Unsent: 128 << 10}); err != nil {
			return nil, nil, err
		}
	}
	info := link.Info{Local: c.LocalAddr(), Remote: c.RemoteAddr()}
	if server, err = p.server.Add(s, !clientOpens, info, nil); err != nil {
		return nil, nil, err
	}
	client, err = p.client.Add(c, clientOpens, info, nil)
	return client, server, err
}

// keep adds lanes until the test ends, so that each side always has n of them, as an agent does.
func (p *pair) keep(t *testing.T, n int) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	var have [2]int
	gone := make(chan int, 1000)
	add := func(i int) bool {
		client, _, err := p.add(i == 0)
		if err != nil {
			return false
		}
		have[i]++
		go func() { <-client.Done(); gone <- i }()
		return true
	}
	for range n {
		if !add(0) || !add(1) {
			t.Fatal("no lanes")
		}
	}
	go func() {
		defer close(stopped)
		for {
			select {
			case i := <-gone:
				have[i]--
			case <-stop:
				return
			case <-p.client.Done():
				return
			}
			for i := range have {
				for have[i] < n && add(i) {
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}

func BenchmarkLanelink(b *testing.B) {
	linktest.Benchmark(b, func(b *testing.B) (link.Session, link.Session) {
		p := newPair(b, false, lanelink.Config{}, lanelink.Config{})
		for range 64 {
			if _, _, err := p.add(true); err != nil {
				b.Fatal(err)
			}
		}
		return p.client, p.server
	})
}

// BenchmarkTLS is what one connection of crypto/tls alone does: the baseline.
func BenchmarkTLS(b *testing.B) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"Bare":   nil,
		"Socket": func(c net.Conn) net.Conn { return socket.Wrap(c) },
	} {
		b.Run(name+"/Trips1", func(b *testing.B) {
			c, s, err := linktest.NewNetwork(b, false, wrap).Connect()
			if err != nil {
				b.Fatal(err)
			}
			go func() { _, _ = io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, make([]byte, 32<<10)) }()
			linktest.Trips(b, c)
			_ = c.Close()
			_ = s.Close()
		})
	}
}
