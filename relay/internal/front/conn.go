package front

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

// Conn is what a caller's connection has shown, for all its requests.
type Conn struct {
	Peer   *authn.Peer
	Source netip.AddrPort // PROXY v2's where that is believed
	Curve  tls.CurveID    // the key agreement
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

// admitted is a TCP connection that has a place. It stays below the bare *tls.Conn that net/http needs to see.
type admitted struct {
	*net.TCPConn
	source netip.AddrPort
	seat   *seat
	agent  bool // its hello offered an agent's protocol; set and read by the handshake's goroutine

	// mu guards:
	mu     sync.Mutex
	left   func() // to be called at the end; nil: nothing
	closed bool
}

// RemoteAddr is the source, which PROXY v2 may have named.
func (s *admitted) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.source) }

// Close gives the place among the strangers back.
func (s *admitted) Close() error {
	s.seat.left()
	s.mu.Lock()
	left := s.left
	s.left, s.closed = nil, true
	s.mu.Unlock()
	if left != nil {
		left()
	}
	return s.TCPConn.Close()
}

// whenLeft calls left when the connection is closed on this side, which it always is in the end.
func (s *admitted) whenLeft(left func()) {
	s.mu.Lock()
	closed := s.closed
	s.left = left
	s.mu.Unlock()
	if closed {
		left()
	}
}

// admittedBelow finds it under TLS, or under what TLS reads from.
func admittedBelow(conn net.Conn) *admitted {
	return socket.Under(conn).Unwrap().(*admitted)
}

// counter counts what is open.
type counter struct{ n atomic.Int64 }

func (c *counter) enter()     { c.n.Add(1) }
func (c *counter) leave()     { c.n.Add(-1) }
func (c *counter) count() int { return int(c.n.Load()) }
