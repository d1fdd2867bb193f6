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

// sendLoop writes for all streams.
func (s *Session) sendLoop() {
	for {
		it, ok := s.out.next()
		if !ok {
			select {
			case <-s.out.wake:
				continue
			case <-s.done:
				return
			}
		}
		err := s.send(it)
		if it.kind == itemData {
			writeBuffers.Put(it.chunk)
			if it.express {
				<-s.out.express
			} else {
				<-s.out.gate
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, yamux.ErrConnectionReset), errors.Is(err, yamux.ErrStreamClosed):
			// The stream's trouble alone; its pump finds out.
		default:
			// A write that timed out may have left half a frame behind: nothing can follow it.
			s.fail(err)
			return
		}
	}
}

func (s *Session) send(it item) error {
	c := it.carrier
	switch it.kind {
	case itemOpen:
		return s.sendOpen(c)
	case itemReset:
		if c.mux == nil {
			return nil // it is dropped when its turn to be opened comes
		}
		var b [link.ChunkHeaderSize + 2]byte
		_, err := c.mux.Write(link.AppendReset(b[:0], c.resetCode()))
		c.finish()
		return err
	case itemCredit:
		var b [link.ChunkHeaderSize + 4]byte
		if n := c.takeCredit(); n > 0 && !c.isDropped() && c.mux != nil {
			_, err := c.mux.Write(link.AppendCredit(b[:0], n))
			return err
		}
		return nil
	case itemFinish:
		if c.mux != nil {
			c.finish()
		}
		return nil
	}
	if c.mux == nil || c.isDropped() {
		return nil
	}
	if it.kind == itemEnd {
		var b [link.ChunkHeaderSize]byte
		_, err := c.mux.Write(link.AppendEnd(b[:0]))
		return err
	}
	chunk := *it.chunk
	if len(chunk)+link.ChunkHeaderSize <= cap(chunk) && s.out.endOf(c) {
		chunk = link.AppendEnd(chunk)
	}
	_, err := c.mux.Write(chunk)
	return err
}

// sendOpen opens the yamux stream, and starts to read it. OpenStream does not wait for the peer: see backlog.
func (s *Session) sendOpen(c *carrier) error {
	if c.isDropped() {
		s.untrack(c) // the peer never hears of it
		return nil
	}
	mux, err := s.mux.OpenStream()
	if err != nil {
		return err
	}
	c.setMux(mux)
	s.running.Go(c.pump)
	return nil
}

// finish ends our direction of the yamux stream: yamux's first Close is the half-close. The peer answers with its own.
func (c *carrier) finish() {
	_ = c.mux.Close() // returns nil only
	c.partEnded()
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
		c.mu.Lock()
		if c.mux != nil {
			all = append(all, c.mux)
		}
		c.mu.Unlock()
	}
	return all
}
