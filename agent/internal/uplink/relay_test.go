package uplink

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trust is the two trust domains of the tests, with the agent's source.
type trust struct {
	cloud, dc *certstest.CA
	agent     certs.Source
}

func newTrust(t *testing.T) *trust {
	t.Helper()
	x := &trust{cloud: certstest.NewCA(t, "cloud.example"), dc: certstest.NewCA(t, "dc1.example")}
	x.agent = certstest.NewSource(x.dc.Issue(t, "spiffe://dc1.example/agent/a"), x.cloud, x.dc)
	return x
}

// fakeRelay takes links on a loopback address as a relay does, and remembers them.
type fakeRelay struct {
	name   string // in Welcome
	addr   string
	hellos chan *protocol.Hello
	links  chan link.Session
	drains chan *protocol.Drain
	grants *grant.Signer
	key    func(*protocol.GrantKey) *protocol.GrantKey // changes what Welcome shows; nil: nothing
}

// grantKey is what Welcome shows.
func (r *fakeRelay) grantKey() *protocol.GrantKey {
	d, err := r.grants.Delegation()
	if err != nil {
		panic(err) // a source in memory
	}
	key := &protocol.GrantKey{Chain: d.Chain, Key: d.Key, Signature: d.Signature}
	if r.key != nil {
		return r.key(key)
	}
	return key
}

func newGrants(t *testing.T, source certs.Source) *grant.Signer {
	t.Helper()
	s, err := grant.NewSigner(source)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startRelay(t *testing.T, x *trust, listen, id string) *fakeRelay {
	t.Helper()
	source := certstest.NewSource(x.cloud.Issue(t, id), x.cloud, x.dc)
	ln, err := tls.Listen("tcp", listen, certs.ServerConfig(source, []string{protocol.ALPN}, certs.AnyID))
	if err != nil {
		t.Fatal(err)
	}
	r := &fakeRelay{addr: ln.Addr().String(), hellos: make(chan *protocol.Hello, 16), links: make(chan link.Session, 16), drains: make(chan *protocol.Drain, 16), grants: newGrants(t, source)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.serve(ctx, conn.(*tls.Conn)) })
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		wg.Wait()
	})
	return r
}

func (r *fakeRelay) serve(ctx context.Context, conn *tls.Conn) {
	if conn.HandshakeContext(ctx) != nil {
		conn.Close()
		return
	}
	s, err := yamuxlink.Server(conn, link.Config{}, link.Info{})
	if err != nil {
		return
	}
	defer s.Close(nil)
	c, hello, err := control.Accept(ctx, s, func(h *protocol.Hello) *protocol.Welcome {
		w := &protocol.Welcome{Relay: r.name, GrantKey: r.grantKey()}
		for _, t := range h.Tunnels {
			w.Tunnels = append(w.Tunnels, protocol.TunnelVerdict{Name: t})
		}
		return w
	}, control.Config{})
	if err != nil {
		return
	}
	r.hellos <- hello
	r.links <- s
	_ = c.Run(ctx, control.Handler{Drain: func(d *protocol.Drain) { r.drains <- d }})
}

// start runs an uplink to the relay name given until the test ends.
func start(t *testing.T, x *trust, change func(*Config)) (u *Uplink, stop func()) {
	t.Helper()
	pattern, err := certs.ParsePattern("spiffe://cloud.example/relay/*")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		RelayID: certs.Patterns{pattern}, Source: x.agent, Transport: TCP, Dial: Direct, Slots: new(atomic.Uint32),
		Hello: func() *protocol.Hello {
			return &protocol.Hello{MinVersion: protocol.MinVersion, MaxVersion: protocol.MaxVersion, Agent: "dc1-a", Epoch: 7}
		},
		Down:  func() []*protocol.TunnelStatus { return nil },
		Serve: func(_ context.Context, s link.Stream, _ link.Info) { echo(s) },
		Drain: 5 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
	change(&cfg)
	u = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); u.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return u, stop
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s within 20 s", what)
		panic("unreachable")
	}
}
