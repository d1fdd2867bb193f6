//go:build linux

// Package pair is the plainest encrypted hop there is, to compare with: an entry that takes plain TCP and, for each
// connection, dials a TLS 1.3 connection of its own to an exit, which dials the backend. Both prove who they are. There
// is no pool, no multiplexing, no policy.
package pair

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferSize is what most programs copy with.
const bufferSize = 32 << 10

const dialTimeout = 10 * time.Second

// A Config makes one half. It crosses to the half's process as JSON.
type Config struct {
	Ways      []Way
	Cert, Key string // PEM files of this half's certificate
	CA        string // PEM file of who may have issued the other's
	Name      string // DNS name in the exit's certificate
}

// A Way says where to listen and where connections go from there.
type Way struct{ Listen, Dial string }

// Entry takes plain TCP and dials TLS, until ctx ends; then every connection is cut.
func Entry(ctx context.Context, c Config) error {
	own, roots, err := c.load()
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, RootCAs: roots, ServerName: c.Name}
	return serve(ctx, c.Ways, func(ctx context.Context, conn *net.TCPConn, to string) error {
		out, err := dial(ctx, to)
		if err != nil {
			return err
		}
		return join(ctx, conn, tls.Client(out, config))
	})
}

// Exit takes TLS and dials plain TCP.
func Exit(ctx context.Context, c Config) error {
	own, roots, err := c.load()
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true} // nobody would use one
	return serve(ctx, c.Ways, func(ctx context.Context, conn *net.TCPConn, to string) error {
		in := tls.Server(conn, config)
		shake, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if err := in.HandshakeContext(shake); err != nil {
			return err
		}
		out, err := dial(ctx, to)
		if err != nil {
			return err
		}
		return join(ctx, in, out)
	})
}

func (c Config) load() (tls.Certificate, *x509.CertPool, error) {
	own, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return own, nil, err
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return own, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return own, nil, fmt.Errorf("%s: expected a certificate", c.CA)
	}
	return own, roots, nil
}

func dial(ctx context.Context, to string) (*net.TCPConn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// serve listens at every way, and returns when all connections have ended.
func serve(ctx context.Context, ways []Way, carry func(context.Context, *net.TCPConn, string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	failed := make(chan error, len(ways))
	for _, w := range ways {
		ln, err := lc.Listen(ctx, "tcp", w.Listen)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { _ = ln.Close() })
		running.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					failed <- err
					return
				}
				running.Go(func() {
					defer conn.Close()
					_ = carry(ctx, conn.(*net.TCPConn), w.Dial) // whoever called sees that the connection is cut
				})
			}
		})
	}
	select {
	case err := <-failed:
		if ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
	}
	return nil
}

// A half is one side of a connection that is passed on: TCP, plain or below TLS.
type half interface {
	net.Conn
	CloseWrite() error
}

// join carries bytes both ways until both sides have ended, passes each end on, and closes both.
func join(ctx context.Context, a, b half) error {
	defer context.AfterFunc(ctx, func() { cut(a); cut(b) })()
	errs := make(chan error, 2)
	pass := func(dst, src half) {
		err := carry(dst, src)
		if err != nil {
			cut(a)
			cut(b)
		}
		errs <- err
	}
	go pass(a, b)
	pass(b, a)
	return errors.Join(<-errs, <-errs, a.Close(), b.Close())
}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func carry(dst, src half) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	// The bare interfaces hide ReadFrom, which would allocate a buffer of its own.
	if _, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf[:]); err != nil {
		return err
	}
	return dst.CloseWrite()
}

// cut makes the other end see a fault and not an end.
func cut(c half) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn().(*net.TCPConn)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}
