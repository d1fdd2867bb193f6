package front

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/relay/internal/authn"
)

// Conn is what a caller's connection has shown, for all its requests.
type Conn struct {
	Peer   *authn.Peer
	Source netip.AddrPort // PROXY v2's where that is believed
	seat   *seat
}

// Proved says that the caller is no stranger any more. It may be called often.
func (c *Conn) Proved() { c.seat.proved() }

type connKey struct{}

// FromContext finds the connection that a request came on; it panics where the context is no request's of a Front.
func FromContext(ctx context.Context) *Conn { return ctx.Value(connKey{}).(*Conn) }

// seat is the place among the strangers that a connection takes until it has proved itself, or has ended.
type seat struct {
	once    sync.Once
	release func(proved bool)
	known   atomic.Bool

	// mu guards:
	mu    sync.Mutex
	late  *time.Timer
	ended bool
}

func newSeat(release func(bool)) *seat { return &seat{release: release} }

// expire runs end unless the connection proves itself within d.
func (s *seat) expire(d time.Duration, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.late = time.AfterFunc(d, end)
	}
}

func (s *seat) proved() {
	s.known.Store(true)
	s.leave(true)
}

// left is called when the connection has ended.
func (s *seat) left() { s.leave(false) }

func (s *seat) leave(proved bool) {
	s.once.Do(func() {
		s.mu.Lock()
		s.ended = true
		if s.late != nil {
			s.late.Stop()
		}
		s.mu.Unlock()
		s.release(proved)
	})
}

// socket is an admitted TCP connection. It stays below the bare *tls.Conn that net/http needs to see.
type socket struct {
	*net.TCPConn
	source netip.AddrPort
	seat   *seat
	agent  bool // its hello offered an agent's protocol; set and read by the handshake's goroutine
}

// RemoteAddr is the source, which PROXY v2 may have named.
func (s *socket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.source) }

// Close gives the place among the strangers back.
func (s *socket) Close() error {
	s.seat.left()
	return s.TCPConn.Close()
}

// counter counts what is open.
type counter struct{ n atomic.Int64 }

func (c *counter) enter()     { c.n.Add(1) }
func (c *counter) leave()     { c.n.Add(-1) }
func (c *counter) count() int { return int(c.n.Load()) }
