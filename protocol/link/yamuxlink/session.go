package yamuxlink

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/yamux"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/chunked"
)

// Session is one end of a link. Its goroutines: one accepts, one ends streams, one writes what no Write does, one gives
// idle memory back, one a stream reads; and yamux's two.
type Session struct {
	cfg     link.Config
	info    link.Info
	client  bool
	conn    *frameConn
	mux     *yamux.Session
	log     lastError
	budget  *link.Budget
	done    chan struct{}
	opening chan struct{} // holds a token while a stream is being opened
	queued  chan struct{} // holds a token when accepted may hold a stream
	ended   chan struct{} // holds a token when ending may hold a stream
	running sync.WaitGroup
	sample  atomic.Pointer[sample] // see rtt
	last    atomic.Pointer[link.Stats]

	// mu guards:
	mu       sync.Mutex
	open     map[*carrier]struct{}
	accepted []*chunked.Stream
	inbound  int                   // of open, those that the peer opened
	live     map[*carrier]struct{} // what yamux knows of: open, or on its way out
	outbound int                   // of live and those being opened, those that this side opened
	ending   []*carrier            // whose direction of ours yamux must still end
	err      error
}

var _ link.Session = (*Session)(nil)

// Open implements link.Session. What the peer does not admit is reset by it later.
func (s *Session) Open(ctx context.Context) (link.Stream, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case s.opening <- struct{}{}:
	case <-s.done:
		return nil, s.Err()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.opening }()
	if err := s.reserve(); err != nil {
		return nil, err
	}
	// It waits for yamux's writer alone, which queues the frame, and never for the peer: see backlog and maxOut.
	mux, err := s.mux.OpenStream()
	if err != nil { // the session's end, or a frame that was not queued in time: no other can follow it
		s.fail(err)
		return nil, s.Err()
	}
	c := s.newCarrier(mux)
	c.opener = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.live[c] = struct{}{}
	s.open[c] = struct{}{}
	s.running.Go(c.pump)
	return c.stream, nil
}

// reserve counts a stream that is about to be opened.
func (s *Session) reserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.outbound >= backlog {
		return link.ErrStreamLimit
	}
	s.outbound++
	return nil
}

func (s *Session) newCarrier(mux *yamux.Stream) *carrier {
	c := &carrier{session: s, mux: mux, id: mux.StreamID(), parts: 2}
	c.stream = chunked.New(c, s.cfg, s.budget)
	return c
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
	s.accepted[0] = nil
	if s.accepted = s.accepted[1:]; len(s.accepted) > 0 {
		s.wakeAccept() // for another caller of Accept
	} else {
		s.accepted = nil
	}
	return st, nil
}

func (s *Session) wakeAccept() {
	select {
	case s.queued <- struct{}{}:
	default:
	}
}

// Close implements link.Session. It takes closeGrace at most on a socket that takes nothing more.
func (s *Session) Close(cause error) {
	s.fail(cause)
	_ = s.mux.Close() // waits for yamux's goroutines; it returns nil only
	s.running.Wait()
}

// fail ends the session without waiting for its goroutines, of which the caller may be one. The first cause stays.
//
// It must come before yamux's own end: from then on, until yamux has closed each stream, every yamux Read spins. With
// thousands of streams that starves the very goroutine that closes them. So each Read is ended here, by its deadline.
func (s *Session) fail(cause error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if cause == errBadFrame { //nolint:errorlint // frameConn's, when yamux gave up by itself
		cause = s.log.explain(cause)
	}
	err := &link.LostError{Cause: cause}
	s.err = err
	open := s.open
	s.open = make(map[*carrier]struct{})
	s.inbound = 0
	s.accepted = nil
	for c := range s.live {
		_ = c.mux.SetDeadline(past) // never fails
	}
	s.mu.Unlock()
	close(s.done)
	for c := range open {
		c.stream.Fail(err)
	}
	s.last.Store(new(s.Stats()))
	_ = s.conn.Close() // all that can be done with its error is done: the session is over
}

// acceptLoop takes yamux's streams until it ends.
func (s *Session) acceptLoop() {
	for {
		mux, err := s.mux.AcceptStream()
		if err != nil {
			s.fail(err) // a write that timed out; of everything else the session knows already
			return
		}
		s.admit(mux)
	}
}

func (s *Session) admit(mux *yamux.Stream) {
	c := s.newCarrier(mux)
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.live[c] = struct{}{}
	flooded := len(s.live)-s.outbound > maxInbound
	refused := s.inbound >= s.cfg.MaxStreams
	if !flooded && !refused {
		s.inbound++
		s.open[c] = struct{}{}
		s.accepted = append(s.accepted, c.stream)
		s.wakeAccept()
	}
	s.mu.Unlock()
	if flooded {
		s.fail(fmt.Errorf("%w: more than %d streams open or unfinished", link.ErrPeerFlooded, maxInbound))
		return
	}
	if refused {
		c.stream.Reset(s.cfg.StreamLimitCode)
	}
	s.running.Go(c.pump)
}

// forget takes a stream that has ended out of the count.
func (s *Session) forget(c *carrier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[c]; !ok {
		return
	}
	delete(s.open, c)
	if !c.opener {
		s.inbound--
	}
}

// untrack says that yamux holds nothing of a stream any more.
func (s *Session) untrack(c *carrier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, c)
	if c.opener {
		s.outbound--
	}
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
func (s *Session) Received() uint64 { return s.conn.received.Load() }

// Streams implements link.Session.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Info implements link.Session.
func (s *Session) Info() link.Info { return s.info }
