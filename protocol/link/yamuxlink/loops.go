package yamuxlink

import (
	"errors"
	"io"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/fairlead/fairlead/protocol/link"
)

// shrinkEvery is how often idle streams give yamux's buffers back: after a burst those hold some 50 KiB a stream.
const shrinkEvery = 5 * time.Second

var errCut = errors.New("the peer cut the stream without an end")

// pump carries the stream's chunks inwards until the peer's direction of the yamux stream has ended. It always reads,
// so that resets and credit are seen whoever reads or does not; credit bounds what it can be given.
func (c *carrier) pump() {
	defer c.partEnded()
	for {
		err := c.stream.ReadChunk(c.mux)
		switch {
		case err == nil:
			continue
		case errors.Is(err, link.ErrPeerFlooded), errors.Is(err, link.ErrMalformedChunk):
			c.session.fail(err)
		case c.session.Err() != nil: // by it all streams look ended
		case errors.Is(err, io.EOF):
			c.stream.Cut(&link.LostError{Cause: errCut}) // which does nothing where the ends were said
		case errors.Is(err, yamux.ErrConnectionReset): // by the peer's yamux, whose backlog is full
			c.stream.ResetByPeer(c.session.cfg.StreamLimitCode)
		default:
			c.session.fail(err)
		}
		return
	}
}

// finish leaves the end of our direction to finishLoop.
func (s *Session) finish(c *carrier) {
	s.mu.Lock()
	s.ending = append(s.ending, c)
	s.mu.Unlock()
	select {
	case s.ended <- struct{}{}:
	default:
	}
}

// finishLoop ends our direction of yamux streams: yamux's first Close is the half-close, and the peer answers with its
// own. It has a goroutine of its own because yamux waits until the frame is queued.
func (s *Session) finishLoop() {
	for {
		select {
		case <-s.ended:
		case <-s.done:
			return
		}
		s.mu.Lock()
		ending := s.ending
		s.ending = nil
		s.mu.Unlock()
		for _, c := range ending {
			_ = c.mux.Close() // returns nil only
			c.partEnded()
		}
	}
}

// shrinkLoop gives back what yamux holds of streams that are idle. It has a goroutine of its own because Shrink waits
// while a frame arrives, for as long as the peer likes.
func (s *Session) shrinkLoop() {
	ticker := time.NewTicker(shrinkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.done:
			return
		}
		for _, mux := range s.muxes() {
			mux.Shrink()
		}
	}
}

func (s *Session) muxes() []*yamux.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*yamux.Stream, 0, len(s.open))
	for c := range s.open {
		all = append(all, c.mux)
	}
	return all
}
