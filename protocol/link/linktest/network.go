package linktest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link/socket"
)

// Network makes pairs of TLS 1.3 connections over loopback. Where it is Vanishing they pass through a forwarder, so that
// the network between them can be made to swallow everything.
type Network struct {
	t         testing.TB
	wrap      func(net.Conn) net.Conn
	vanishing bool
	server    *tls.Config
	client    *tls.Config
	ln        net.Listener
	running   sync.WaitGroup

	mu     sync.Mutex // guards:
	silent bool
	ends   []net.Conn
}

// NewNetwork makes a network that lives for the test. wrap, where given, is put between TCP and TLS.
func NewNetwork(t testing.TB, vanishing bool, wrap func(net.Conn) net.Conn) *Network {
	t.Helper()
	if wrap == nil {
		wrap = func(c net.Conn) net.Conn { return c }
	}
	n := &Network{t: t, wrap: wrap, vanishing: vanishing}
	n.server, n.client = TLSConfigs(t)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.ln = ln
	t.Cleanup(func() {
		_ = ln.Close()
		n.mu.Lock()
		for _, c := range n.ends {
			_ = c.Close()
		}
		n.mu.Unlock()
		n.running.Wait()
	})
	return n
}

// Connect returns both ends of a new connection, whose handshake is done. It fails once the test has ended.
func (n *Network) Connect() (client, server *tls.Conn, err error) {
	dialed, err := new(net.Dialer).DialContext(n.t.Context(), "tcp", n.ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	accepted, err := n.ln.Accept()
	if err != nil {
		_ = dialed.Close()
		return nil, nil, err
	}
	if n.vanishing {
		small(dialed, accepted)
		if dialed, err = n.forwarded(dialed); err != nil {
			return nil, nil, err
		}
	}
	client, server = tls.Client(n.wrap(dialed), n.client), tls.Server(n.wrap(accepted), n.server)
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- server.HandshakeContext(ctx) }()
	err = errors.Join(client.HandshakeContext(ctx), <-done)
	if err != nil {
		_, _ = client.Close(), server.Close()
	}
	return client, server, err
}

// forwarded puts a forwarder in front of far and returns the end to use instead.
func (n *Network) forwarded(far net.Conn) (near net.Conn, err error) {
	near, err = new(net.Dialer).DialContext(n.t.Context(), "tcp", n.ln.Addr().String())
	if err != nil {
		return nil, err
	}
	inner, err := n.ln.Accept()
	if err != nil {
		return nil, err
	}
	small(near, inner)
	n.mu.Lock()
	n.ends = append(n.ends, far, inner)
	n.mu.Unlock()
	var there, back atomic.Bool
	n.running.Go(func() { n.forward(far, inner, &there, &back) })
	n.running.Go(func() { n.forward(inner, far, &back, &there) })
	return near, nil
}

// small keeps the kernel from swallowing what a test writes to see back-pressure.
func small(conns ...net.Conn) {
	for _, c := range conns {
		tcp := c.(*net.TCPConn)
		_ = tcp.SetReadBuffer(64 << 10)
		_ = tcp.SetWriteBuffer(64 << 10)
	}
}

// forward passes on what src says: its bytes, its end, and that it was reset. ended is set before dst hears of the end,
// back by the other direction.
func (n *Network) forward(dst, src net.Conn, ended, back *atomic.Bool) {
	b := make([]byte, 32<<10)
	for {
		k, err := src.Read(b)
		n.mu.Lock()
		silent := n.silent
		n.mu.Unlock()
		if silent {
			return // the network took it; the far socket stays open and hears nothing
		}
		if k > 0 && !pass(dst, src, b[:k]) {
			err = net.ErrClosed
		}
		if err == io.EOF {
			ended.Store(true)
			_ = dst.(*net.TCPConn).CloseWrite()
			if !wasReset(src, back) {
				return
			}
		}
		if err != nil {
			_ = dst.(*net.TCPConn).SetLinger(0)
			_ = dst.Close()
			return
		}
	}
}

// pass writes b to dst; false: it could not, or src was reset while dst took nothing.
func pass(dst, src net.Conn, b []byte) bool {
	for {
		_ = dst.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := dst.Write(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err == nil
		}
		if state, ok := socket.Ask(src); ok && state.Gone {
			return false
		}
		b = b[n:]
	}
}

// wasReset waits until src, whose direction has ended, is reset, or will never be: its other direction has ended too.
func wasReset(src net.Conn, back *atomic.Bool) bool {
	for {
		state, ok := socket.Ask(src)
		if !ok || back.Load() {
			return false
		}
		if state.Gone {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Vanish makes the network swallow everything, both ways.
func (n *Network) Vanish() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = true
}

// TLSConfigs returns the configs of two ends that trust each other for an hour.
func TLSConfigs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"relay.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	server = &tls.Config{
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true, NextProtos: []string{"fairlead/1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}},
	}
	client = &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "relay.test", DynamicRecordSizingDisabled: true, NextProtos: []string{"fairlead/1"},
	}
	return server, client
}
