package lanelink

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

// Session is one end of a set of lanes. It ends with Close, or when it has had no lane left for Config.DeadAfter.
type Session struct {
	cfg      Config
	received atomic.Uint64
	done     chan struct{}
	queued   chan struct{} // holds a token when accepted may hold a stream
	stirred  chan struct{} // holds a token when a stream begins while lanes rest
	running  sync.WaitGroup

	// mu guards:
	mu       sync.Mutex
	info     link.Info
	lanes    map[*Lane]struct{}
	idle     []*Lane // of this side's, the one used last at the end
	open     map[*Stream]struct{}
	accepted []*Stream
	inbound  int // of open, those that the peer opened
	past     link.Stats
	resting  bool   // lanes are looked at more seldom
	draining uint16 // the code of Drain

	lastGone  time.Time // when the last lane ended (at first: when the session began), and why
	lastCause error
	err       error
}

var (
	_ link.Session  = (*Session)(nil)
	_ link.Measured = (*Session)(nil)
)

// New makes a session without lanes. The caller must end it with Close.
func New(cfg Config) *Session {
	s := &Session{
		cfg:     cfg.withDefaults(),
		info:    link.Info{Transport: "lane"},
		done:    make(chan struct{}),
		stirred: make(chan struct{}, 1),
		queued:  make(chan struct{}, 1),
		lanes:   make(map[*Lane]struct{}),
		open:    make(map[*Stream]struct{}),

		lastGone: time.Now(),
	}
	s.running.Go(s.lookAfter)
	return s
}

func (s *Session) join(l *Lane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.cfg.MaxLanes > 0 && len(s.lanes) >= s.cfg.MaxLanes {
		return ErrTooMany
	}
	if s.info.Remote == nil {
		s.info = l.info
	}
	s.lanes[l] = struct{}{}
	if l.opens {
		l.idleSince = time.Now()
		s.idle = append(s.idle, l)
	} else {
		s.running.Go(l.serve) // here, so that Close waits for it
	}
	return nil
}

// Open implements link.Session: it takes a free lane, the one that was used last, and fails with link.ErrStreamLimit
// where there is none.
func (s *Session) Open(ctx context.Context) (link.Stream, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for {
		l, st, err := s.take()
		if err != nil {
			return nil, err
		}
		// A lane that ends from here on sees the stream.
		if !l.isDone() && (time.Since(l.idleSince) < recently || l.sock.Silent()) {
			return st, nil
		}
		l.end(errPeerEnded) // an end, a reset for draining, or something that no idle peer says
		s.left(st, false)
	}
}

func (s *Session) take() (*Lane, *Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, nil, s.err
	}
	if len(s.idle) == 0 {
		return nil, nil, link.ErrStreamLimit
	}
	l := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	st := newStream(l)
	s.open[st] = struct{}{}
	l.current.Store(st)
	s.stir()
	return l, st, nil
}

// Free counts the lanes on which a stream can be opened now.
func (s *Session) Free() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

// Lanes counts the lanes, and of them those that carry a stream.
func (s *Session) Lanes() (all, busy int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lanes), len(s.open)
}

// Accept implements link.Session.
func (s *Session) Accept(ctx context.Context) (link.Stream, error) {
	for {
		st, err := s.tryAccept()
		if st != nil || err != nil {
			return st, err
		}
		select {
		case <-s.queued:
		case <-s.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Session) tryAccept() (link.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if len(s.accepted) == 0 {
		return nil, nil
	}
	st := s.accepted[0]
	s.accepted = slices.Delete(s.accepted, 0, 1)
	if len(s.accepted) > 0 {
		s.wakeAccept()
	}
	return st, nil
}

func (s *Session) wakeAccept() {
	select {
	case s.queued <- struct{}{}:
	default:
	}
}

// admit takes in a stream that the peer has begun; where it may not have it, code says why.
func (s *Session) admit(st *Stream) (code uint16, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.lane.current.Store(st) // with the count, so that a lane that ends meanwhile takes both back
	s.open[st] = struct{}{}
	s.inbound++
	s.stir()
	switch {
	case s.draining != 0:
		return s.draining, false
	case s.inbound > s.cfg.MaxStreams, st.lane.tired.Load():
		return s.cfg.StreamLimitCode, false
	}
	if s.cfg.Serve == nil {
		s.accepted = append(s.accepted, st)
		s.wakeAccept()
	}
	return 0, true
}

// Drain lets no more streams begin: lanes that are free end at once, and busy ones when their stream has ended. A
// stream that the peer begins in this moment is reset with code before anybody has seen it.
func (s *Session) Drain(code uint16) {
	s.mu.Lock()
	s.draining = code
	lanes := s.allLanes()
	s.mu.Unlock()
	for _, l := range lanes {
		if l.current.Load() == nil {
			l.bury(code)
		}
	}
}

// drains is the code of Drain, zero before it.
func (s *Session) drains() uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// spawn runs f in a goroutine that Close waits for; not at all once the session has ended, when everything is closed.
func (s *Session) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.running.Go(f)
	}
}

// left says that a stream has ended; its lane is free again unless it has ended too. It reports whether it is: an opener's
// lane that is tired by now is not, and the caller ends it. (Under mu, so that either retire finds it idle or this sees it
// tired.)
func (s *Session) left(st *Stream, reusable bool) bool {
	l := st.lane
	s.mu.Lock()
	_, there := s.open[st]
	delete(s.open, st)
	if there && !l.opens {
		s.inbound--
	}
	_, alive := s.lanes[l]
	reusable = reusable && (!l.opens || !l.tired.Load())
	if reusable && alive && l.opens && l.current.CompareAndSwap(st, nil) {
		l.idleSince = time.Now()
		s.idle = append(s.idle, l)
	}
	s.mu.Unlock()
	if reusable && !l.opens && l.current.CompareAndSwap(st, nil) {
		l.freed <- struct{}{} // has room: one stream, one token
	}
	return reusable
}

// gone takes a lane out.
func (s *Session) gone(l *Lane, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lanes[l]; !ok {
		return
	}
	delete(s.lanes, l)
	s.past = s.past.Plus(l.last)
	s.past.Congestion = l.last.Congestion
	s.idle = slices.DeleteFunc(s.idle, func(x *Lane) bool { return x == l })
	s.lastGone, s.lastCause = time.Now(), cause
}

// deserted reports whether the session has had no lane for too long.
func (s *Session) deserted(now time.Time) (cause error, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastCause, len(s.lanes) == 0 && now.Sub(s.lastGone) >= s.cfg.DeadAfter
}

// Close implements link.Session.
func (s *Session) Close(cause error) {
	s.fail(cause)
	s.running.Wait()
}

func (s *Session) fail(cause error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = &link.LostError{Cause: cause}
	lanes := s.allLanes()
	s.idle, s.accepted = nil, nil
	s.mu.Unlock()
	close(s.done)
	for _, l := range lanes {
		l.end(cause)
	}
}

func (s *Session) allLanes() []*Lane {
	all := make([]*Lane, 0, len(s.lanes))
	for l := range s.lanes {
		all = append(all, l)
	}
	return all
}

// Doubt ends every lane whose peer has given no sign of life lately: idle ones, and those with something
// unacknowledged. It is for when another connection to the same peer has died of silence.
func (s *Session) Doubt(cause error) {
	s.mu.Lock()
	lanes := s.allLanes()
	s.mu.Unlock()
	for _, l := range lanes {
		state, known := socket.Ask(l.sock)
		if l.current.Load() == nil || known && state.Silence > time.Second {
			l.end(cause)
		}
	}
}

// lookAfter retires lanes that were idle for long, the one that was used longest ago first: this side opens the
// streams, so none can be on its way. It ends lanes whose peer is gone, which nobody might notice who neither reads
// nor writes.
func (s *Session) lookAfter() {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.stirred:
			timer.Reset(lookEvery)
			continue
		case <-s.done:
			return
		}
		if cause, yes := s.deserted(time.Now()); yes {
			s.fail(cause)
			return
		}
		for _, l := range s.retired(time.Now()) {
			l.end(nil)
		}
		s.mu.Lock()
		lanes := s.allLanes()
		s.mu.Unlock()
		for _, l := range lanes {
			l.look()
		}
		timer.Reset(s.pause())
	}
}

// pause is how long nothing has to be looked at: a thousand agents that rest must cost next to nothing.
func (s *Session) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting = len(s.open) == 0 && s.cfg.IdleAfter > 4*restEvery
	for _, l := range s.idle {
		s.resting = s.resting && time.Since(l.idleSince) > lookEvery
	}
	if s.resting {
		return restEvery
	}
	return lookEvery
}

// stir ends a long pause, since a stream begins. s.mu is held.
func (s *Session) stir() {
	if s.resting {
		s.resting = false
		select {
		case s.stirred <- struct{}{}:
		default:
		}
	}
}

// retired takes the lanes out of idle that are to end.
func (s *Session) retired(now time.Time) []*Lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Lane
	kept := s.idle[:0]
	for i, l := range s.idle {
		switch {
		case !l.flushed() || !l.sock.Silent():
			out = append(out, l)
		case len(s.idle)-i > s.cfg.Floor && now.Sub(l.idleSince) >= s.cfg.IdleAfter:
			out = append(out, l)
		default:
			kept = append(kept, l)
		}
	}
	clear(s.idle[len(kept):])
	s.idle = kept
	return out
}

// Done implements link.Session.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err implements link.Session.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Received implements link.Session. It counts what came out of TLS.
func (s *Session) Received() uint64 { return s.received.Load() }

// Streams implements link.Session.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Info implements link.Session: the first lane's.
func (s *Session) Info() link.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info
}

// Stats implements link.Measured: sums over all lanes there were, and the shortest round trip of those there are.
func (s *Session) Stats() link.Stats {
	s.mu.Lock()
	all, lanes := s.past, s.allLanes()
	s.mu.Unlock()
	for _, l := range lanes {
		if state, ok := socket.Ask(l.sock); ok {
			all = add(all, state.Stats)
		}
	}
	return all
}

func add(sum, one link.Stats) link.Stats {
	if sum.RTT == 0 || one.RTT > 0 && one.RTT < sum.RTT {
		sum.RTT = one.RTT
	}
	sum.Congestion = one.Congestion
	return sum.Plus(one)
}
