// Package front owns the relay's one port, TCP and UDP. By ALPN it tells agents from callers: an agent's connection
// becomes a link, a caller's goes to an HTTP server (HTTP/1.1, 2 and 3). What strangers may cost is bounded here.
//
// It judges no caller (package policy does, per request) and runs no link (its Agent handler does). With quiclink it is
// the only importer of quic-go.
package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

// Config is what Listen needs. Limits left zero have the defaults that stand beside them.
type Config struct {
	Address string // host:port; port 0 takes a free one
	// Agents and Callers are the TLS configs of the two kinds: certs.ServerConfig and certs.CallerConfig. Their ALPN
	// is set here.
	Agents, Callers *tls.Config
	// Agent serves an agent's link, and blocks for the link's life or until ctx ends. It calls proved once the agent
	// may stay, and may close the session itself; it is closed in any case when Agent returns.
	Agent func(ctx context.Context, session link.Session, proved func())
	// Lane serves one lane of an agent's in the same way, from its Hello on. It owns conn, whose info is what Link
	// sessions have; conn is closed in any case when Lane returns.
	Lane func(ctx context.Context, conn *tls.Conn, info link.Info, proved func())
	// Enroll serves a connection for requests to the authority, whose other end has proved nothing; it is closed when Enroll
	// returns, and after ProveTimeout at the latest. Nil: such connections are callers'.
	Enroll func(ctx context.Context, conn net.Conn)
	// Caller answers callers. FromContext finds the connection in a request's context.
	Caller http.Handler
	// Follow, where given, is told of each caller's connection that has shown a certificate: chain, not judged yet, and
	// end, which cuts the connection and does not block. left is called when the connection has ended.
	Follow func(chain []*x509.Certificate, remote string, end func()) (left func())
	// Shook, where given, is told of each handshake that went well: kind is agent, lane, enroll or caller.
	Shook func(kind, transport string, curve tls.CurveID)
	Log   *slog.Logger

	Congestion        socket.Congestion // of TCP; default socket.Auto
	Link              link.Config       // windows and streams of agents' links
	ProxyFrom         []netip.Prefix    // whose PROXY v2 header is believed, and expected; TCP only
	StatelessResetKey [32]byte          // of QUIC, kept over restarts; zero: none
	DrainTimeout      time.Duration     // for callers' running calls when Run ends; default 60 s

	Strangers         *limit.Gate   // required
	QUICUnvalidated   int           // 128 QUIC handshakes from addresses that may be forged before Retry is sent
	HandshakeTimeout  time.Duration // 5 s, the PROXY header included
	ProveTimeout      time.Duration // 15 s, after the handshake, until the connection has proved itself
	HeaderReadTimeout time.Duration // 10 s
	IdleTimeout       time.Duration // 60 s, a caller's connection between requests
	HeaderBytes       int           // 32 KiB, all of a request's header
}

func (c Config) withDefaults() Config {
	duration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	duration(&c.DrainTimeout, time.Minute)
	duration(&c.HandshakeTimeout, 5*time.Second)
	duration(&c.ProveTimeout, 15*time.Second)
	duration(&c.HeaderReadTimeout, 10*time.Second)
	duration(&c.IdleTimeout, time.Minute)
	if c.HeaderBytes == 0 {
		c.HeaderBytes = 32 << 10
	}
	if c.QUICUnvalidated == 0 {
		c.QUICUnvalidated = 128
	}
	if c.Congestion == "" {
		c.Congestion = socket.Auto
	}
	c.Link = c.Link.WithDefaults()
	return c
}

// Front is a port that is open. Nothing is served before Run.
type Front struct {
	cfg    Config
	log    *slog.Logger
	altSvc string

	tcp       *net.TCPListener
	udp       *net.UDPConn
	buffers   quiclink.Buffers // of udp
	transport *quic.Transport
	quic      *quic.Listener
	proxies   chan struct{} // places of connections whose PROXY header is still to come

	handed *handover
	http   *http.Server
	http3  *http3.Server
	calls  calls
	conns  sync.WaitGroup // one for each connection that front itself looks after

	accepting, agents, callers    context.Context // each ends at its step of Run's stop
	endAccept, endAgents, endCall context.CancelFunc
	unproved                      counter // QUIC connections
	unvalidated                   counter // those of them whose address may be forged
}

// Listen opens the port, TCP and UDP. Run must be called, and closes it.
func Listen(ctx context.Context, cfg Config) (*Front, error) {
	if cfg.Agents == nil || cfg.Callers == nil || cfg.Agent == nil || cfg.Lane == nil || cfg.Caller == nil || cfg.Log == nil || cfg.Strangers == nil {
		return nil, errors.New("front: expected Agents, Callers, Agent, Lane, Caller, Log and Strangers to be set")
	}
	cfg = cfg.withDefaults()
	if cfg.Follow == nil {
		cfg.Follow = func([]*x509.Certificate, string, func()) func() { return func() {} }
	}
	if cfg.Shook == nil {
		cfg.Shook = func(string, string, tls.CurveID) {}
	}
	f := &Front{cfg: cfg, log: cfg.Log, proxies: make(chan struct{}, maxProxied)}
	if err := f.bind(ctx); err != nil {
		return nil, err
	}
	f.altSvc = fmt.Sprintf(`h3=":%d"; ma=86400`, f.Addr().Port())
	f.accepting, f.endAccept = context.WithCancel(context.WithoutCancel(ctx))
	f.agents, f.endAgents = context.WithCancel(context.WithoutCancel(ctx))
	f.callers, f.endCall = context.WithCancel(context.WithoutCancel(ctx))
	f.handed = newHandover(f.tcp.Addr())
	f.newServers()
	if err := f.listenQUIC(); err != nil {
		return nil, errors.Join(err, f.tcp.Close(), f.udp.Close())
	}
	return f, nil
}

// bind takes the same port of TCP and UDP. Where any port will do, the one that TCP got may be taken for UDP: then
// the next one is tried.
func (f *Front) bind(ctx context.Context) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // MPTCP sockets know neither BBR nor TCP_NOTSENT_LOWAT
	var err error
	for range 10 {
		var ln net.Listener
		if ln, err = lc.Listen(ctx, "tcp", f.cfg.Address); err != nil {
			return fmt.Errorf("listening on %s: %w", f.cfg.Address, err)
		}
		var pc net.PacketConn
		if pc, err = lc.ListenPacket(ctx, "udp", ln.Addr().String()); err == nil {
			f.tcp, f.udp = ln.(*net.TCPListener), pc.(*net.UDPConn)
			return nil
		}
		_ = ln.Close()
		if _, port, splitErr := net.SplitHostPort(f.cfg.Address); splitErr != nil || port != "0" {
			break
		}
	}
	return fmt.Errorf("listening on UDP %s: %w", f.cfg.Address, err)
}

// Addr is the port that was opened.
func (f *Front) Addr() netip.AddrPort { return f.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Buffers says what the kernel gave the UDP socket.
func (f *Front) Buffers() quiclink.Buffers { return f.buffers }

// Run serves until ctx ends, and returns when everything that it began has ended. An error means that the port broke.
//
// Stop order: no new connections; callers' running calls end, at most for DrainTimeout, while agents still carry them;
// agents; sockets.
func (f *Front) Run(ctx context.Context) error {
	broken := make(chan error, 3)
	var loops sync.WaitGroup
	loops.Go(func() { broken <- f.acceptTCP() })
	loops.Go(func() { broken <- f.acceptQUIC() })
	loops.Go(func() { broken <- f.http.Serve(f.handed) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	}

	f.endAccept()
	_ = f.tcp.Close()
	_ = f.quic.Close()

	f.drain(context.WithoutCancel(ctx))
	f.endCall()
	_ = f.http.Close()
	_ = f.http3.Close()
	_ = f.handed.Close()

	f.endAgents()
	f.calls.wait(context.Background())
	_ = f.transport.Close() // ends what is left of QUIC: handshakes, and connections that waited for their end
	_ = f.udp.Close()
	loops.Wait() // after it, nobody adds to conns
	f.conns.Wait()
	return err
}

// hangUp is how long callers without a running call may take to hang up after they were told to.
const hangUp = time.Second

// drain lets callers' calls end.
func (f *Front) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.DrainTimeout)
	defer cancel()
	var servers sync.WaitGroup
	// Both tell the callers, and wait for them; an error is that they did not hang up in time, and they are cut next.
	servers.Go(func() { _ = f.http.Shutdown(ctx) })
	servers.Go(func() { _ = f.http3.Shutdown(ctx) })
	f.calls.wait(ctx)
	defer time.AfterFunc(hangUp, cancel).Stop()
	servers.Wait()
}

// shook tells of a handshake.
func (f *Front) shook(transport string, state *tls.ConnectionState) {
	kind := "caller"
	switch state.NegotiatedProtocol {
	case protocol.ALPN:
		kind = "agent"
	case protocol.ALPNLane:
		kind = "lane"
	case protocol.ALPNEnroll:
		kind = "enroll"
	}
	f.cfg.Shook(kind, transport, state.CurveID)
}

// configFor is the TLS config for a hello: the agents' where it offers an agent's protocol, else the callers'.
func (f *Front) configFor(callers ...string) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	agents := f.cfg.Agents.Clone()
	agents.NextProtos = []string{protocol.ALPN}
	lanes := f.cfg.Agents.Clone()
	lanes.NextProtos = []string{protocol.ALPNLane}
	enroll := f.cfg.Agents.Clone()
	enroll.NextProtos = []string{protocol.ALPNEnroll}
	enroll.ClientAuth, enroll.VerifyConnection = tls.NoClientCert, nil // requests prove themselves
	others := f.cfg.Callers.Clone()
	others.NextProtos = callers
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, protocol.ALPN) {
			markAgent(hello.Conn)
			return agents, nil
		}
		if slices.Contains(hello.SupportedProtos, protocol.ALPNLane) {
			markAgent(hello.Conn)
			return lanes, nil
		}
		if f.cfg.Enroll != nil && slices.Contains(hello.SupportedProtos, protocol.ALPNEnroll) {
			return enroll, nil
		}
		return others, nil
	}
}

// outer is the TLS config that a listener gets: only GetConfigForClient counts, but both libraries want to see the
// protocols and that there is a certificate.
func (f *Front) outer(callers ...string) *tls.Config {
	cfg := f.cfg.Callers.Clone()
	cfg.NextProtos = append([]string{protocol.ALPN, protocol.ALPNLane, protocol.ALPNEnroll}, callers...)
	cfg.GetConfigForClient = f.configFor(callers...)
	return cfg
}

// markAgent notes that a TCP connection's hello offered an agent's protocol.
func markAgent(conn net.Conn) {
	if s, ok := conn.(*socket.Conn); ok {
		s.Unwrap().(*admitted).agent = true
	}
}
