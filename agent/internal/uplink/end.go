package uplink

import (
	"context"
	"crypto/tls"
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
	"github.com/fairlead/fairlead/protocol/link/socket"
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
	demand    *demand
	wanted    atomic.Bool
	stop      context.CancelFunc // ends keep
	meter     link.Meter

	oneAsk sync.Mutex // one request to the authority at a time

	mu      sync.Mutex // guards: the fields below
	asking  *asking    // the one that waits for its answer
	asked   uint32     // how many there were
	conn    *control.Conn
	session link.Session
	welcome *protocol.Welcome
	peer    certs.Identity
	since   time.Time // of the current state
	err     error     // why the last link ended, or the last attempt failed
}

func (u *Uplink) newEnd(relay, address, transport string, d *demand, stop context.CancelFunc) *end {
	e := &end{u: u, relay: relay, address: address, transport: transport, demand: d, slot: uint16(u.cfg.Slots.Add(1)), //nolint:gosec // begins anew after 65,535: those links are long gone
		stop: stop, since: time.Now()}
	e.wanted.Store(true)
	e.meter.Tick(link.Stats{}, e.since)
	return e
}

// keep dials, serves and dials again until ctx ends.
func (e *end) keep(ctx context.Context) {
	log := e.u.cfg.Log.With("relay", e.relay, "address", e.address, "transport", e.transport)
	attempt := e.attempt
	if e.transport == laneTransport {
		attempt = e.attemptLanes
	}
	redial.Loop(ctx, attempt, redial.Observer{
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
	state := s.Info().TLS
	// The link outlives ctx by its drain.
	held, err := e.u.hold(context.WithoutCancel(ctx), &state, e.u.cfg.Log.With("relay", e.relay, "address", e.address, "transport", e.transport))
	if err != nil {
		return fmt.Errorf("relay at %s: %w", e.address, err)
	}
	defer held.release()
	peer := held.peer.Identity()
	hello := e.u.cfg.Hello()
	hello.Slot = e.slot
	conn, welcome, err := control.Dial(ctx, s, hello, e.u.cfg.Control)
	if err != nil {
		return fmt.Errorf("registering at %s: %w", e.address, err)
	}
	if err := e.u.takeKey(welcome.GrantKey, peer.ID); err != nil {
		return fmt.Errorf("registering at %s: %w", e.address, err)
	}
	e.report(welcome, peer)
	if e.transport == "tcp" {
		e.demand.beside.Store(&home{peer.ID, welcome.Relay})
		defer e.demand.beside.Store(nil)
		e.demand.wake()
	}
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
	held.begin(func(m *protocol.Proof) error { return conn.Send(m) })
	return e.serve(ctx, s, conn, held)
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
	if e.transport == "quic" {
		cfg, host, err := e.tlsConfig(protocol.ALPN)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, e.patience(quicTimeout))
		defer cancel()
		s, err := quiclink.Dial(ctx, e.address, host, cfg, e.u.cfg.Link)
		if err != nil {
			return nil, err
		}
		e.u.udp.Do(func() { s.Buffers().Report(e.u.cfg.Log) })
		return s, nil
	}
	conn, info, err := e.dialTLS(ctx, protocol.ALPN)
	if err != nil {
		return nil, err
	}
	return yamuxlink.Client(conn, e.u.cfg.Link, info)
}

// Within a minute after a link has ended, an attempt is soon given up for another: a kernel that was not heard asks again
// after 1 s, then 2, 4 and 8, and so would miss the moment in which the path is back.
const (
	hurry          = time.Minute
	connectTimeout = 1200 * time.Millisecond // a first SYN and a second one
	quicTimeout    = 3 * time.Second         // several flights
)

// patience is how long an attempt may take: short in a hurry, else as long as the handshake's own bound.
func (e *end) patience(short time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.since) < hurry {
		return min(short, e.u.cfg.Handshake)
	}
	return e.u.cfg.Handshake
}

func (e *end) tlsConfig(alpn string) (cfg *tls.Config, host string, err error) {
	host, _, err = net.SplitHostPort(e.relay)
	if err != nil {
		return nil, "", err
	}
	cfg = certs.ClientConfig(e.u.cfg.Source, host, []string{alpn}, e.authorize)
	if e.u.cfg.RequirePQ {
		certs.RequirePostQuantum(cfg)
	}
	return cfg, host, nil
}

// dialTLS connects and shakes hands, over a tuned *socket.Conn.
func (e *end) dialTLS(ctx context.Context, alpn string) (*tls.Conn, link.Info, error) {
	cfg, _, err := e.tlsConfig(alpn)
	if err != nil {
		return nil, link.Info{}, err
	}
	dialing, cancel := context.WithTimeout(ctx, e.patience(connectTimeout))
	raw, err := e.u.cfg.Dial(dialing, e.address)
	cancel()
	if err != nil {
		return nil, link.Info{}, err
	}
	conn := tls.Client(socket.Wrap(raw), cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, link.Info{}, errors.Join(err, raw.Close())
	}
	if err := socket.Tune(raw, socket.Options{Congestion: e.u.cfg.Congestion, Unsent: socket.LinkUnsent}); err != nil {
		e.u.cfg.Log.Warn("tuning a socket failed", "relay", e.relay, "address", e.address, "error", err)
	}
	return conn, link.Info{Transport: "tcp", Local: raw.LocalAddr(), Remote: raw.RemoteAddr(), TLS: conn.ConnectionState()}, nil
}

// authorize admits only relays that the agent's file names.
func (e *end) authorize(id certs.ID) error {
	if !e.u.cfg.RelayID.Match(id) {
		return fmt.Errorf("%s is not a relay that relay_id names", id)
	}
	return nil
}

// serve runs the link to its end. It stands on what the relay has last proved.
func (e *end) serve(ctx context.Context, s link.Session, conn *control.Conn, held *relayEnd) error {
	life, end := context.WithCancel(held.ctx)
	defer end()
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
		Proof:  held.renew,
		Answer: e.answered,
		Key: func(m *protocol.GrantKey) {
			if err := e.u.takeKey(m, held.peer.Identity().ID); err != nil {
				held.log.Warn("the relay's newer grant key is refused", "security", true, "error", err)
			}
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
	if errors.Is(err, control.ErrDead) && e.transport == "tcp" {
		e.demand.doubt(err)
	}
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
		if e.transport == "tcp" {
			e.demand.shared.Add(1)
		}
		e.demand.wake()
		wg.Go(func() {
			e.u.cfg.Serve(ctx, st, s.Info())
			if e.transport == "tcp" {
				e.demand.shared.Add(-1)
			}
		})
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
