// Package backend reaches the servers of the data centre: one Backend for each tunnel, with its own pool of
// connections, its own TLS rules and its own time-outs. It classifies what goes wrong into the protocol's codes, and
// says whether the server may have seen the call.
//
// It does not decide who may call, follows no redirect, uses no proxy, and repeats no request that may have been
// sent.
package backend

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Config says what a Backend is. Address is required.
type Config struct {
	Address Address
	// TLS is for https and tls addresses; zero: the system's roots, no client certificate.
	TLS TLSFiles
	// DialTimeout bounds name resolution, connecting and the TLS handshake together; zero: 5 s.
	DialTimeout time.Duration
	// HeaderTimeout bounds the wait for the response header once the request is written; zero: 30 s; negative: none.
	HeaderTimeout time.Duration
}

// Defaults of Config.
const (
	DefaultDialTimeout   = 5 * time.Second
	DefaultHeaderTimeout = 30 * time.Second
)

// Backend is one server. It is safe for concurrent use.
type Backend struct {
	addr    Address
	dialer  net.Dialer
	timeout time.Duration
	tls     *tls.Config // nil without TLS

	header  time.Duration   // zero: none
	pool    *pool           // nil where net/http keeps the connections
	main    *http.Transport // nil where the backend cannot carry HTTP
	upgrade *http.Transport // as main, but never HTTP/2; the same where that makes no difference
}

// New makes a Backend; it reads the TLS files and dials nothing.
func New(cfg Config) (*Backend, error) {
	b := &Backend{addr: cfg.Address, timeout: cfg.DialTimeout}
	if b.timeout == 0 {
		b.timeout = DefaultDialTimeout
	}
	b.dialer = net.Dialer{
		ControlContext:  checkDialled,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3},
	}
	if cfg.Address.TLS() {
		var err error
		if b.tls, err = cfg.TLS.load(cfg.Address.host); err != nil {
			return nil, err
		}
	}
	if cfg.Address.HTTP() {
		header := cfg.HeaderTimeout
		if header == 0 {
			header = DefaultHeaderTimeout
		}
		b.header = max(header, 0)
		b.main, b.upgrade = b.transports(b.header)
		if canLook && (cfg.Address.scheme == "http" || cfg.Address.scheme == "unix") {
			b.pool = new(pool)
		}
	}
	return b, nil
}

// Address returns what the Backend was made with.
func (b *Backend) Address() Address { return b.addr }

// Close closes the connections that are idle. Calls that run end undisturbed, and their connections after them.
func (b *Backend) Close() {
	if b.main == nil {
		return
	}
	if b.pool != nil {
		b.pool.close()
	}
	b.main.CloseIdleConnections()
	b.upgrade.CloseIdleConnections()
}

// Conn is a connection to a backend whose two directions end apart.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Dial opens a connection for a TCP call, after the TLS handshake where the address says tls; preamble goes out first of all. It
// blocks until ctx ends, at most for the dial time-out. The error is a *protocol.Error with Sent false.
func (b *Backend) Dial(ctx context.Context, preamble []byte) (Conn, error) {
	c, err := b.dial(ctx)
	if err == nil && len(preamble) > 0 {
		if _, err = c.Write(preamble); err != nil {
			c.Close()
			err = &dialError{err}
		}
	}
	if err == nil && b.tls != nil {
		c, err = b.handshake(ctx, c, b.tls)
	}
	if err != nil {
		return nil, classify(ctx, err, false)
	}
	return c, nil
}
