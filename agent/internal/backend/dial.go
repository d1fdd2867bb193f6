package backend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// dialError is whatever went wrong before there was a connection: the backend saw nothing.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// tlsError is a handshake that did not come about: the backend saw no call.
type tlsError struct{ err error }

func (e *tlsError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

// addrError is a name that resolved to an address which no backend may have.
type addrError struct {
	addr netip.Addr
	why  string
}

func (e *addrError) Error() string { return fmt.Sprintf("%s is %s, refused", e.addr, e.why) }

// checkDialled runs after name resolution, on the very address that the socket is about to connect to, so that a
// name cannot resolve to one thing when it is checked and to another when it is dialled.
func checkDialled(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &addrError{why: "not an IP address"}
	}
	if why := RefusedAddr(ap.Addr()); why != "" {
		return &addrError{addr: ap.Addr(), why: why}
	}
	return nil
}

// dial connects without TLS; every error is a *dialError.
func (b *Backend) dial(ctx context.Context) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	network, address := b.addr.dial()
	c, err := b.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	switch c := c.(type) {
	case *net.TCPConn:
		return c, nil
	case *net.UnixConn:
		return c, nil
	}
	c.Close()
	return nil, &dialError{fmt.Errorf("expected a TCP or unix connection, got %T", c)}
}

// handshake runs TLS over c and owns it: on an error, always a *tlsError, c is closed.
func (b *Backend) handshake(ctx context.Context, c net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	tc := tls.Client(c, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, &tlsError{err}
	}
	return tc, tc.SetDeadline(time.Time{})
}
