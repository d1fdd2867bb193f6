package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
)

const (
	// laneFloor is how many lanes are kept free for the streams to come, at each relay that the address leads to.
	laneFloor = 2
	// lanesAtOnce bounds the handshakes that run side by side.
	lanesAtOnce = 4
	// lanesPerSecond bounds the dials behind the first full pool, whatever resets lanes (each costs one) or the relay
	// ends them: a handshake is a millisecond of either side. Streams that find no lane take the yamux link.
	lanesPerSecond = 50
	// maxLanePause bounds the wait after a lane that could not be had.
	maxLanePause = 5 * time.Second
	// vainLanes is how many lanes in a row may land where none is missing.
	vainLanes = 8
)

// demand is what one relay address is asked for: how many lanes it should have follows from it.
type demand struct {
	shared  atomic.Int64 // streams that run on the yamux link, for want of a lane perhaps
	lanes   atomic.Pointer[lanelink.Session]
	beside  atomic.Pointer[home] // the relay that the yamux link is at; nil while there is none
	changed chan struct{}        // holds a token when something may have changed
}

func newDemand() *demand { return &demand{changed: make(chan struct{}, 1)} }

// doubt ends lanes that give no sign of life, when the link beside them has died of silence.
func (d *demand) doubt(cause error) {
	if s := d.lanes.Load(); s != nil {
		s.Doubt(cause)
	}
}

func (d *demand) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// lane is a connection that has registered and is no lane yet.
type lane struct {
	conn    *tls.Conn
	info    link.Info
	welcome *protocol.Welcome
	peer    certs.Identity
}

// attemptLanes keeps a set of lanes until the last of them has ended.
func (e *end) attemptLanes(ctx context.Context, up func()) error {
	first, err := e.dialLane(ctx)
	if err != nil {
		return fmt.Errorf("dialing a lane to %s: %w", e.address, err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx)) // streams outlive ctx by the drain
	info := first.info
	info.Transport = laneTransport
	s := lanelink.New(lanelink.Config{Config: e.u.cfg.Link, Serve: func(st link.Stream) {
		e.demand.wake()
		e.u.cfg.Serve(life, st, info)
	}})
	p := &pool{
		end: e, session: s, stop: stop, results: make(chan *lane), homes: make(map[home]map[*lanelink.Lane]struct{}),
		pace: rate.NewLimiter(lanesPerSecond, e.u.cfg.Lanes),
	}
	if err := p.add(ctx, first); err != nil {
		stop()
		s.Close(err)
		return fmt.Errorf("lane to %s: %w", e.address, err)
	}
	e.demand.lanes.Store(s)
	e.report(first.welcome, first.peer)
	e.mu.Lock()
	e.session, e.welcome, e.peer, e.since, e.err = s, first.welcome, first.peer, time.Now(), nil
	e.mu.Unlock()
	e.u.once.Do(func() { close(e.u.first) })
	up()
	return p.run(ctx)
}

// dialLane makes one connection and registers it.
func (e *end) dialLane(ctx context.Context) (*lane, error) {
	ctx, cancel := context.WithTimeout(ctx, e.u.cfg.Handshake)
	defer cancel()
	conn, info, err := e.dialTLS(ctx, protocol.ALPNLane)
	if err != nil {
		return nil, err
	}
	l := &lane{conn: conn, info: info}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if l.peer, err = certs.Verify(e.u.cfg.Source, info.TLS.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now()); err == nil {
		err = e.u.checkBans([]certs.Identity{l.peer}) // before a Hello, by which it would count on us
	}
	if err == nil {
		hello := e.u.cfg.Hello()
		hello.Slot = e.slot
		if l.welcome, err = control.Greet(conn, hello); err == nil {
			err = e.u.takeKey(l.welcome.GrantKey, l.peer.ID)
		}
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.NetConn().Close()
		return nil, err
	}
	return l, nil
}

// pool makes a session's lanes follow the demand.
type pool struct {
	end     *end
	session *lanelink.Session
	stop    context.CancelFunc // ends the streams, for which Close of the session waits
	running sync.WaitGroup
	pace    *rate.Limiter
	results chan *lane // of dials: nil where there was none
	dialing int
	failed  int // dials in a row
	vain    int // lanes in a row that landed where none was missing
	notYet  time.Time

	mu    sync.Mutex // guards: homes
	homes map[home]map[*lanelink.Lane]struct{}
}

// home is the relay that a lane has landed on: behind a load balancer one address leads to several, and each of them
// serves by the lanes that it has.
type home struct {
	id   certs.ID
	name string
}

func (l *lane) home() home { return home{l.peer.ID, l.welcome.Relay} }

// missing says how many lanes should be dialled. A dial may land anywhere, and is made as long as some relay has too few.
func (p *pool) missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := 0
	for at := range p.homes {
		free += p.idle(at)
	}
	return max(p.wanting(), int(p.end.demand.shared.Load())+laneFloor-free)
}

// wanting counts the lanes that relays lack of their floor. One where all are busy may have calls waiting, nobody here knows
// how many: it is given half as many again, so that a burst is not served two lanes at a time. p.mu is held.
func (p *pool) wanting() int {
	n := 0
	for at, lanes := range p.homes {
		idle := p.idle(at)
		if n += max(0, laneFloor-idle); idle == 0 {
			n += len(lanes) / 2
		}
	}
	if at := p.end.demand.beside.Load(); at != nil && p.homes[*at] == nil {
		n += laneFloor
	}
	return n
}

// idle counts the free lanes at a relay. p.mu is held.
func (p *pool) idle(at home) int {
	n := 0
	for l := range p.homes[at] {
		if !l.Busy() {
			n++
		}
	}
	return n
}

// run serves the lanes until the session ends, or ctx does and they have drained.
func (p *pool) run(ctx context.Context) error {
	defer p.running.Wait()
	defer p.session.Close(nil)
	defer p.stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	dialing, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for ; p.dialing > 0; p.dialing-- {
			if l := <-p.results; l != nil {
				_ = l.conn.NetConn().Close()
			}
		}
	}()
	for {
		p.grow(dialing)
		select {
		case <-ctx.Done():
			p.drain()
			return context.Cause(ctx)
		case <-p.session.Done():
			return p.session.Err()
		case l := <-p.results:
			p.dialing--
			p.take(ctx, l)
		case <-p.end.demand.changed:
		case <-tick.C:
		}
	}
}

// grow dials as many lanes as are missing: for every stream that runs one, and laneFloor for those to come.
func (p *pool) grow(ctx context.Context) {
	if time.Now().Before(p.notYet) {
		return
	}
	all, _ := p.session.Lanes()
	want := min(all+p.missing(), p.end.u.cfg.Lanes)
	for ; all+p.dialing < want && p.dialing < lanesAtOnce && p.pace.Allow(); p.dialing++ {
		go func() {
			l, err := p.end.dialLane(ctx)
			if err != nil {
				p.end.u.cfg.Log.Debug("no lane", "relay", p.end.relay, "address", p.end.address, "error", err)
			}
			p.results <- l
		}()
	}
}

// take adds the lane that a dial brought; after one that brought none the next waits.
func (p *pool) take(ctx context.Context, l *lane) {
	vain := l != nil && p.inVain(l)
	if l == nil || p.add(ctx, l) != nil {
		p.failed++
		p.pause(p.failed)
		return
	}
	p.failed, p.notYet = 0, time.Time{}
	if p.vain++; !vain {
		p.vain = 0
	}
	if p.vain > vainLanes { // whoever balances the load does not lead to where they are missing
		p.pause(p.vain - vainLanes)
	}
}

// inVain reports whether a lane has landed where none is missing, while one is elsewhere.
func (p *pool) inVain(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle(l.home()) >= laneFloor && p.wanting() > 0
}

func (p *pool) pause(times int) {
	most := min(maxLanePause, 100*time.Millisecond<<min(times, 10))
	p.notYet = time.Now().Add(time.Duration(rand.Int64N(int64(most))))
}

// add lets a lane serve for as long as its relay's identity holds. Where it may not, it is closed.
func (p *pool) add(ctx context.Context, l *lane) error {
	log := p.end.u.cfg.Log.With("relay", p.end.relay, "address", p.end.address, "transport", laneTransport)
	held, err := p.end.u.hold(context.WithoutCancel(ctx), &l.info.TLS, log) // streams outlive ctx by the drain
	if err != nil {
		_ = l.conn.NetConn().Close()
		log.Debug("lane not taken", "error", err)
		return err
	}
	added, err := p.session.Add(l.conn, false, l.info, held.heard)
	if err != nil {
		held.release()
		return err // the session has ended, and run says why
	}
	held.begin(func(m *protocol.Proof) error {
		note, err := protocol.Append(nil, m)
		if err == nil {
			added.Say(note)
		}
		return err
	})
	at := l.home()
	p.mu.Lock()
	if p.homes[at] == nil {
		p.homes[at] = make(map[*lanelink.Lane]struct{})
	}
	p.homes[at][added] = struct{}{}
	p.mu.Unlock()
	p.running.Go(func() {
		defer held.release()
		select {
		case <-added.Done():
		case <-held.ctx.Done():
			added.Close(context.Cause(held.ctx))
		}
		p.mu.Lock()
		if delete(p.homes[at], added); len(p.homes[at]) == 0 {
			delete(p.homes, at)
		}
		p.mu.Unlock()
		p.end.demand.wake()
	})
	return nil
}

// drain lets the running streams end; it blocks for Config.Drain at most.
func (p *pool) drain() {
	p.session.Drain(uint16(protocol.Draining))
	deadline := time.NewTimer(p.end.u.cfg.Drain)
	defer deadline.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for all := 1; all > 0; all, _ = p.session.Lanes() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return
		case <-p.session.Done():
			return
		}
	}
}
