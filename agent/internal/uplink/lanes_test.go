package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

// laneRelay takes lanes, all of them into one session, and a link beside them.
type laneRelay struct {
	*fakeRelay
	session *lanelink.Session
	refuse  protocol.Code
	cut     bool // lanes are ended as soon as they are there
	taken   atomic.Int64
}

func startLaneRelay(t *testing.T, x *trust, listen string) *laneRelay {
	t.Helper()
	source := certstest.NewSource(x.cloud.Issue(t, "spiffe://cloud.example/relay/1"), x.cloud, x.dc)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	cfg := certs.ServerConfig(source, []string{protocol.ALPN, protocol.ALPNLane}, certs.AnyID)
	r := &laneRelay{session: lanelink.New(lanelink.Config{}), fakeRelay: &fakeRelay{addr: ln.Addr().String(),
		hellos: make(chan *protocol.Hello, 16), links: make(chan link.Session, 16), drains: make(chan *protocol.Drain, 16), grants: newGrants(t, source)}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.take(ctx, tls.Server(socket.Wrap(raw), cfg)) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		r.session.Close(nil)
		wg.Wait()
	})
	return r
}

func (r *laneRelay) take(ctx context.Context, conn *tls.Conn) {
	if conn.HandshakeContext(ctx) != nil {
		_ = conn.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == protocol.ALPN {
		r.serve(ctx, conn)
		return
	}
	_, err := control.Admit(conn, func(*protocol.Hello) *protocol.Welcome {
		return &protocol.Welcome{Code: r.refuse, Relay: r.name, GrantKey: r.grantKey()}
	})
	r.taken.Add(1)
	if err != nil || r.cut {
		_ = conn.Close()
		return
	}
	_, _ = r.session.Add(conn, true, link.Info{}, nil)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after 20 s", what)
		}
	}
}

// open opens a stream on a lane and carries a byte to and fro, so that the agent serves it.
func (r *laneRelay) open(t *testing.T) link.Stream {
	t.Helper()
	st, err := r.session.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(st, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return st
}

func (r *laneRelay) lanes() int { all, _ := r.session.Lanes(); return all }

func TestLanesFollowTheDemandUpToTheCap(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 5 })
	eventually(t, "the floor stands", func() bool { return r.session.Free() == laneFloor })
	for i := range 5 {
		eventually(t, "a free lane", func() bool { return r.session.Free() > 0 })
		r.open(t)
		eventually(t, "the pool grows with the streams, up to its cap",
			func() bool { return r.lanes() == min(i+1+laneFloor, 5) })
	}
	if _, err := r.session.Open(t.Context()); !errors.Is(err, link.ErrStreamLimit) {
		t.Errorf("a sixth stream: %v, expected ErrStreamLimit", err)
	}
}

func TestStreamsOnTheSharedLinkAskForLanes(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 64 })
	shared := receive(t, r.links, "link")
	for range 6 {
		st, err := shared.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a lane for each, and the floor", func() bool { return r.lanes() == 6+laneFloor })
}

func TestLanesComeBackAfterTheyWereLost(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 8 })
	for range 3 {
		eventually(t, "the floor stands", func() bool { return r.session.Free() == laneFloor })
		r.session.Doubt(errors.New("lost"))
	}
	eventually(t, "the floor stands again", func() bool { return r.session.Free() == laneFloor })
}

func TestNoLanesAreDialledWhereNoneAreWanted(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	u, _ := start(t, x, func(c *Config) { c.Relays = []string{r.addr} })
	receive(t, r.links, "link")
	if s := u.Status(); len(s) != 1 || s[0].Transport != "tcp" {
		t.Errorf("%+v; expected the yamux link alone", s)
	}
}

func TestStoppingLetsTheCallOnALaneEndAndTakesNoOther(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	_, stop := start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 8 })
	eventually(t, "the floor stands", func() bool { return r.session.Free() == laneFloor })
	st := r.open(t)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	eventually(t, "the free lanes are gone", func() bool { return r.lanes() == 1 })
	if _, err := st.Write([]byte("and after")); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(st); err != nil || string(got) != "and after" {
		t.Errorf("%q, %v; expected the call to end well", got, err)
	}
	receive(t, stopped, "end of the uplink")
}

func TestRefusedLanesAreAskedForAgainWithoutAFlood(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	r.refuse = protocol.SessionLimit
	u, _ := start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 8 })
	receive(t, r.links, "link")
	eventually(t, "the reason is shown", func() bool {
		for _, s := range u.Status() {
			if s.Transport == laneTransport && s.LastError != "" {
				return true
			}
		}
		return false
	})
}

// Serve's streams may outlive their lane: the session's end waits for them, and must tell them first.
func TestStoppingEndsAStreamThatOnlyItsContextEnds(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	serving := make(chan struct{})
	_, stop := start(t, x, func(c *Config) {
		c.Relays, c.Lanes, c.Drain = []string{r.addr}, 8, 50*time.Millisecond
		c.Serve = func(ctx context.Context, st link.Stream, _ link.Info) {
			defer st.Close()
			close(serving)
			<-ctx.Done()
		}
	})
	eventually(t, "the floor stands", func() bool { return r.session.Free() == laneFloor })
	st, err := r.session.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	receive(t, serving, "stream")
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	receive(t, stopped, "end of the uplink")
}

// A relay that ends every lane as soon as it has it, or callers that reset every call, must not make the agent shake
// hands without end.
func TestLanesThatAreEndedAtOnceAreDialledAtABoundedRate(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	r.cut = true
	start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 4 })
	eventually(t, "the burst is over", func() bool { return r.taken.Load() > 4 })
	before, from := r.taken.Load(), time.Now()
	time.Sleep(time.Second)
	if n, most := r.taken.Load()-before, int64(time.Since(from).Seconds()*lanesPerSecond)+2*lanesAtOnce; n > most {
		t.Errorf("%d lanes were dialled, expected at most %d", n, most)
	}
}

// balancer forwards connections to one relay after the other.
type balancer struct {
	addr string
	mu   sync.Mutex
	to   []string // guarded by mu
}

func startBalancer(t *testing.T, to ...string) *balancer {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{addr: ln.Addr().String(), to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			to := b.to[0]
			b.to = append(b.to[1:], to)
			b.mu.Unlock()
			wg.Go(func() { forward(conn, to) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return b
}

func forward(conn net.Conn, to string) {
	defer conn.Close()
	far, err := new(net.Dialer).Dial("tcp", to)
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(far, conn); _ = far.Close() }()
	_, _ = io.Copy(conn, far)
}

func TestLanesStandFreeAtEveryRelayBehindABalancer(t *testing.T) {
	x := newTrust(t)
	one, two := startLaneRelay(t, x, "127.0.0.1:0"), startLaneRelay(t, x, "127.0.0.1:0")
	one.name, two.name = "one", "two"
	b := startBalancer(t, one.addr, two.addr)
	start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{b.addr}, 64 })
	for range 6 { // calls at the second one alone
		eventually(t, "both have free lanes", func() bool { return one.session.Free() >= laneFloor && two.session.Free() >= laneFloor })
		two.open(t)
	}
	// The balancer does not lead to the second one any more: that must not become a flood of the first.
	b.mu.Lock()
	b.to = []string{one.addr}
	b.mu.Unlock()
	for range two.session.Free() {
		two.open(t)
	}
	time.Sleep(2 * time.Second)
	if n := one.lanes(); n > 40 {
		t.Errorf("%d lanes at the relay that needs two", n)
	}
}
