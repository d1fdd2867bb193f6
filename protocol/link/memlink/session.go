package memlink

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/chunked"
)

var errPeerClosed = errors.New("the peer closed the link")

// Session is one end of a link in memory.
type Session struct {
	wire   *wire
	peer   *Session
	cfg    link.Config
	budget *link.Budget
	info   link.Info
	done   chan struct{}
	queued chan struct{} // holds a token when accepted may hold a stream

	// mu guards:
	mu       sync.Mutex
	streams  map[*carrier]struct{}
	opened   int // of streams, those that this side opened
	accepted []*chunked.Stream
	received uint64
	err      error
}

var _ link.Session = (*Session)(nil)

func newSession(w *wire, cfg link.Config, local, remote net.Addr) *Session {
	cfg = cfg.WithDefaults()
	return &Session{
		wire: w, cfg: cfg, budget: link.NewBudget(cfg.Budget),
		info:    link.Info{Transport: "memory", Local: local, Remote: remote},
		done:    make(chan struct{}),
		queued:  make(chan struct{}, 1),
		streams: make(map[*carrier]struct{}),
	}
}

// Vanish makes both directions of the link silent, without an end: what either side sends from now on waits.
func (s *Session) Vanish() { s.wire.setSilent(true) }

// Restore ends what Vanish began: everything that waited arrives, in its order.
func (s *Session) Restore() { s.wire.setSilent(false) }

// Open implements link.Session. It never blocks.
func (s *Session) Open(ctx context.Context) (link.Stream, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	mine := &carrier{session: s, opener: true}
	theirs := &carrier{session: s.peer, other: mine}
	mine.other = theirs
	mine.stream = chunked.New(mine, s.cfg, s.budget)
	theirs.stream = chunked.New(theirs, s.peer.cfg, s.peer.budget)
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return nil, s.err
	}
	if s.opened >= s.peer.cfg.MaxStreams {
		s.mu.Unlock()
		return nil, link.ErrStreamLimit
	}
	s.opened++
	s.streams[mine] = struct{}{}
	s.mu.Unlock()
	s.wire.send(func() { s.peer.admit(theirs) })
	return mine.stream, nil
}

// admit takes a stream that the peer opened, or resets one too many: the peer may have seen one end before this side.
func (s *Session) admit(c *carrier) {
	s.mu.Lock()
	if s.err != nil {
		err := s.err
		s.mu.Unlock()
		c.stream.Fail(err)
		return
	}
	full := len(s.streams)-s.opened >= s.cfg.MaxStreams
	s.streams[c] = struct{}{}
	if !full {
		s.accepted = append(s.accepted, c.stream)
	}
	s.received++ // whatever arrives proves the peer alive
	s.mu.Unlock()
	if full {
		c.stream.Reset(s.cfg.StreamLimitCode)
		return
	}
	s.wake()
}

func (s *Session) wake() {
	select {
	case s.queued <- struct{}{}:
	default:
	}
}

// Accept implements link.Session.
func (s *Session) Accept(ctx context.Context) (link.Stream, error) {
	for {
		s.mu.Lock()
		if s.err != nil {
			defer s.mu.Unlock()
			return nil, s.err
		}
		if len(s.accepted) > 0 {
			st := s.accepted[0]
			s.accepted = s.accepted[1:]
			if len(s.accepted) > 0 {
				s.wake() // for another Accept
			}
			s.mu.Unlock()
			return st, nil
		}
		s.mu.Unlock()
		select {
		case <-s.queued:
		case <-s.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close implements link.Session. The peer's session ends too, once the wire lets it know.
func (s *Session) Close(cause error) {
	if s.end(cause) {
		s.wire.send(func() { s.peer.end(errPeerClosed) })
	}
}

func (s *Session) end(cause error) bool {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return false
	}
	err := &link.LostError{Cause: cause}
	s.err = err
	streams := s.streams
	s.streams = make(map[*carrier]struct{})
	s.opened = 0
	s.accepted = nil
	close(s.done)
	s.mu.Unlock()
	for c := range streams {
		c.stream.Fail(err)
	}
	return true
}

// Done implements link.Session.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err implements link.Session.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Received implements link.Session.
func (s *Session) Received() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received
}

// Streams implements link.Session.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Info implements link.Session.
func (s *Session) Info() link.Info { return s.info }
