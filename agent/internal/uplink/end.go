package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
	"github.com/fairlead/fairlead/protocol/link/redial"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

// dialTimeout is the default bound of a link's beginning up to the TLS handshake's end; Hello has its own bound.
const dialTimeout = 10 * time.Second

// end is this side of one supervised link: one address, one transport.
type end struct {
	u         *Uplink
	relay     string // as configured, host:port
	address   string
	transport string
	slot      uint16
	wanted    atomic.Bool
	stop      context.CancelFunc // ends keep

	mu      sync.Mutex // guards: the fields below
	conn    *control.Conn
	session link.Session
	welcome *protocol.Welcome
	peer    certs.Identity
	since   time.Time // of the current state
	err     error     // why the last link ended, or the last attempt failed
}

func (u *Uplink) newEnd(relay, address, transport string, stop context.CancelFunc) *end {
	e := &end{u: u, relay: relay, address: address, transport: transport, slot: uint16(u.cfg.Slots.Add(1)), //nolint:gosec // begins anew after 65,535: those links are long gone
		stop: stop, since: time.Now()}
	e.wanted.Store(true)
	return e
}

// keep dials, serves and dials again until ctx ends.
func (e *end) keep(ctx context.Context) {
	log := e.u.cfg.Log.With("relay", e.relay, "address", e.address, "transport", e.transport)
	redial.Loop(ctx, e.attempt, redial.Observer{
		Lost: func(err error, stood, wait time.Duration) {
			e.down(err)
			if !e.wanted.Load() {
				e.stop()
				return
			}
			if e.u.Up() > 0 {
				log.Warn("link lost", "error", err, "stood", stood.Round(time.Millisecond), "redial_in", wait)
			} else {
				log.Error("link lost, and no other is up", "error", err, "stood", stood.Round(time.Millisecond), "redial_in", wait)
			}
		},
		Retry: func(err error, failures int, wait time.Duration) {
			e.down(err)
			if failures == 1 || failures%10 == 0 {
				log.Warn("no link yet", "error", err, "failures", failures, "redial_in", wait)
			}
		},
	})
}

// attempt dials and serves one link to its end.
func (e *end) attempt(ctx context.Context, up func()) error {
	s, err := e.dial(ctx)
	if err != nil {
		return fmt.Errorf("dialing %s over %s: %w", e.address, e.transport, err)
	}
	defer s.Close(nil)
	peer, err := certs.Verify(e.u.cfg.Source, s.Info().TLS.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
	if err != nil {
		return fmt.Errorf("relay at %s: %w", e.address, err)
	}
	hello := e.u.cfg.Hello()
	hello.Slot = e.slot
	conn, welcome, err := control.Dial(ctx, s, hello, e.u.cfg.Control)
	if err != nil {
		return fmt.Errorf("registering at %s: %w", e.address, err)
	}
	e.report(welcome, peer)
	e.mu.Lock()
	e.conn, e.session, e.welcome, e.peer, e.since, e.err = conn, s, welcome, peer, time.Now(), nil
	e.mu.Unlock()
	for _, s := range e.u.cfg.Down() {
		if err := conn.Send(s); err != nil {
			return fmt.Errorf("telling %s which backends are down: %w", e.address, err)
		}
	}
	e.u.once.Do(func() { close(e.u.first) })
	up()
	return e.serve(ctx, s, conn, peer)
}

func (e *end) report(welcome *protocol.Welcome, peer certs.Identity) {
	log := e.u.cfg.Log.With("relay", e.relay, "address", e.address, "transport", e.transport)
	log.Info("link up", "relay_id", peer.ID, "relay_name", welcome.Relay, "version", welcome.Version)
	for _, v := range welcome.Tunnels {
		if v.Code != protocol.OK {
			log.Error("relay refuses a tunnel", "tunnel", v.Name, "code", v.Code, "reason", v.Sentence)
		}
	}
}

func (e *end) dial(ctx context.Context) (link.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, e.u.cfg.Handshake)
	defer cancel()
	host, _, err := net.SplitHostPort(e.relay)
	if err != nil {
		return nil, err
	}
	cfg := certs.ClientConfig(e.u.cfg.Source, host, []string{protocol.ALPN}, e.authorize)
	if e.transport == "quic" {
		return quiclink.Dial(ctx, e.address, host, cfg, e.u.cfg.Link)
	}
	raw, err := e.u.cfg.Dial(ctx, e.address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return yamuxlink.Client(conn, e.u.cfg.Link, link.Info{
		Transport: "tcp", Local: raw.LocalAddr(), Remote: raw.RemoteAddr(), TLS: conn.ConnectionState()})
}

// authorize admits only relays that the agent's file names.
func (e *end) authorize(id certs.ID) error {
	if !e.u.cfg.RelayID.Match(id) {
		return fmt.Errorf("%s is not a relay that relay_id names", id)
	}
	return nil
}

// serve runs the link to its end. The two identities bound its life; the first of them to expire ends it.
func (e *end) serve(ctx context.Context, s link.Session, conn *control.Conn, peer certs.Identity) error {
	expiry := peer.NotAfter
	if own, err := e.u.cfg.Source.Certificate(); err == nil && own.Leaf.NotAfter.Before(expiry) {
		expiry = own.Leaf.NotAfter
	}
	// The link outlives ctx by its drain.
	life, end := context.WithDeadlineCause(context.WithoutCancel(ctx), expiry,
		protocol.Errorf(protocol.IdentityExpired, "an identity of this link expired at %s", expiry.UTC().Format(time.RFC3339)))
	var wg sync.WaitGroup
	wg.Go(func() { e.accept(life, s) })
	wg.Go(func() {
		select {
		case <-ctx.Done():
			e.drain(life, s, conn)
			end()
		case <-life.Done():
		}
	})
	err := conn.Run(life, control.Handler{
		Drain: func(d *protocol.Drain) {
			e.u.cfg.Log.Info("relay drains", "relay", e.relay, "address", e.address, "code", d.Code, "reason", d.Sentence)
		},
		Suspect: func(suspect bool) {
			if suspect {
				e.u.cfg.Log.Warn("link suspect", "relay", e.relay, "address", e.address, "transport", e.transport)
				e.u.probeOthers(e)
			}
		},
	})
	end()
	wg.Wait()
	return err
}

// accept serves every stream of the link; it returns when all of them have ended.
func (e *end) accept(ctx context.Context, s link.Session) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		st, err := s.Accept(ctx)
		if err != nil {
			return // the session has ended, and Run says why
		}
		wg.Go(func() { e.u.cfg.Serve(ctx, st, s.Info()) })
	}
}

// settle is how long a draining link must be without streams: a call that the relay sent down it before it heard of the
// drain is still on its way.
const settle = 250 * time.Millisecond

// drain tells the relay and waits for the running streams, all but the control stream.
func (e *end) drain(ctx context.Context, s link.Session, conn *control.Conn) {
	ctx, cancel := context.WithTimeout(ctx, e.u.cfg.Drain)
	defer cancel()
	if err := conn.Send(&protocol.Drain{Code: protocol.Draining, Sentence: "agent stops", Deadline: e.u.cfg.Drain}); err != nil {
		return // the link is gone, and its streams with it
	}
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for busy := time.Now(); time.Since(busy) < settle+2*conn.RTT(); {
		if s.Streams() > 1 {
			busy = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Done():
			return
		case <-tick.C:
		}
	}
}

// probeOthers makes the sibling links prove themselves at once.
func (u *Uplink) probeOthers(suspect *end) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.ends {
		if e != suspect {
			e.mu.Lock()
			if e.conn != nil {
				e.conn.Probe()
			}
			e.mu.Unlock()
		}
	}
}
