// Package front owns the relay's one port, TCP and UDP, and tells agents from callers by ALPN: an agent's connection
// becomes a link, everybody else speaks HTTP/1.1, HTTP/2 or HTTP/3 to one handler. Strangers are bounded by package
// limit until they have proved who they are.
//
// It decides on no call and knows no tunnel. With quiclink it is the only importer of quic-go.
package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

// Config is what Listen needs. Every field is required unless it says otherwise.
type Config struct {
	Listen        netip.AddrPort
	ProxyFrom     []netip.Prefix // whose PROXY v2 header is believed, and required; may be empty
	Source        certs.Source
	ServerCert    func() (*tls.Certificate, error) // shown to callers; nil: the SVID
	AuthorizeLink func(certs.ID) error             // whose links are taken at all
	Strangers     *limit.Gate
	Link          link.Config

	// Agent runs one link to its end; it calls proved once the agent has registered. Its context ends when links are
	// to close.
	Agent  func(ctx context.Context, s link.Session, proved func())
	Caller http.Handler // finds the connection's proof by Of(request's context)

	HandshakeTimeout time.Duration
	HeaderTimeout    time.Duration        // for a request's header to arrive
	IdleTimeout      time.Duration        // of a caller's connection between requests
	HeaderBytes      int                  // of a request, at most
	QUICUnvalidated  int                  // QUIC handshakes at one time before addresses are validated by Retry
	ResetKey         [32]byte             // of QUIC's stateless resets: the same after a restart
	Drain            func() time.Duration // how long calls may go on once Run is told to stop
	Refused          func(reason string)  // a connection ended before it proved anything; for metrics
	Log              *slog.Logger
}

// Reasons that Refused is told.
const (
	ReasonLimit     = "limit"     // too many strangers, or too many failures of this one
	ReasonProxy     = "proxy"     // no PROXY header where one is required
	ReasonHandshake = "handshake" // TLS or QUIC
)

// Front is the open port.
type Front struct {
	cfg   Config
	log   *slog.Logger
	agent *tls.Config // for connections that offer protocol.ALPN
	web   *tls.Config // for all others, over TCP
	web3  *tls.Config // and over QUIC

	tcp       net.Listener
	udp       *net.UDPConn
	transport *quic.Transport
	quic      *quic.Listener

	callers *callers     // TCP connections handed to http1
	http1   *http.Server // HTTP/1.1 and HTTP/2
	http3   *http3.Server

	calls atomic.Int64   // requests that run, hijacked ones too
	conns sync.WaitGroup // goroutines that own a connection
}

// Listen opens both sockets. The caller calls Run, or Close where it gives up before.
func Listen(ctx context.Context, cfg Config) (*Front, error) {
	f := &Front{cfg: cfg, log: cfg.Log, callers: newCallers()}
	f.configureTLS()
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	lc.SetMultipathTCP(false) // TCP_USER_TIMEOUT and TCP_NOTSENT_LOWAT do not work on it
	var err error
	if f.tcp, err = lc.Listen(ctx, "tcp", cfg.Listen.String()); err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	// With port 0 both get the port that TCP got.
	port := f.tcp.Addr().(*net.TCPAddr).Port
	f.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: cfg.Listen.Addr().AsSlice(), Port: port, Zone: cfg.Listen.Addr().Zone()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening: %w", err), f.tcp.Close())
	}
	f.checkBuffers()
	if err := f.listenQUIC(); err != nil {
		return nil, errors.Join(err, f.tcp.Close(), f.udp.Close())
	}
	f.http1, f.http3 = f.newHTTP1(), f.newHTTP3(port)
	return f, nil
}

// Addr is the port's address.
func (f *Front) Addr() netip.AddrPort { return f.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Close gives the sockets up before Run.
func (f *Front) Close() error {
	return errors.Join(f.tcp.Close(), f.quic.Close(), f.transport.Close(), f.udp.Close())
}

// Run serves until ctx ends or a socket fails. Then it takes no more connections, lets running calls go on for
// Config.Drain, closes the links and returns when every goroutine has ended.
func (f *Front) Run(ctx context.Context) error {
	links, closeLinks := context.WithCancelCause(context.WithoutCancel(ctx))
	defer closeLinks(nil)
	requests, endRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer endRequests()
	f.http1.BaseContext = func(net.Listener) context.Context { return requests }

	failed := make(chan error, 3)
	var accepting sync.WaitGroup
	accepting.Go(func() { failed <- f.acceptTCP(ctx, links) })
	accepting.Go(func() { failed <- f.acceptQUIC(ctx, links, requests) })
	served := make(chan error, 1)
	go func() { served <- f.http1.Serve(f.callers) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	err = errors.Join(err, f.tcp.Close(), f.quic.Close()) // what is established goes on
	f.drain(endRequests)
	closeLinks(errors.New("relay stops"))
	f.callers.Close() //nolint:errcheck,gosec // its own, cannot fail
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	accepting.Wait()
	err = errors.Join(err, f.transport.Close(), f.udp.Close())
	f.conns.Wait()
	return err
}

// drain waits for the running calls, at most Config.Drain, then cuts off the rest and closes callers' connections.
func (f *Front) drain(endRequests func()) {
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.Drain())
	defer cancel()
	var goaway sync.WaitGroup
	goaway.Go(func() { _ = f.http1.Shutdown(ctx) }) // its only error is ctx's
	goaway.Go(func() { _ = f.http3.Shutdown(ctx) })
	if !f.idle(ctx) {
		f.log.Warn("calls are cut off, drain_timeout is over", "calls", f.calls.Load())
	}
	cancel()
	endRequests()
	goaway.Wait()
	_ = f.http1.Close() // what is left is given up
	_ = f.http3.Close()
}

// idle waits until no request runs; Shutdown alone does not count hijacked connections, and for HTTP/3 it waits for the
// clients to hang up.
func (f *Front) idle(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for f.calls.Load() > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
