package lanelink

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// Stream is one use of a lane. Its bytes are read from and written to the connection by the caller's own goroutine.
type Stream struct {
	link.Break
	lane  *Lane
	heard atomic.Bool // the peer knows of the stream

	// mu guards:
	mu           sync.Mutex
	err          error // a reset, or the end of the lane: final
	writeClosed  bool  // no Write may begin
	endBegun     bool  // the end is being sent
	endSent      bool  // and was
	endReceived  bool
	closed       bool // by Close
	released     bool
	soon         bool // the end may wait for the lane's next bytes
	doomed       bool // the connection is broken: what is unread does not count any more
	readDeadline time.Time
	sendDeadline time.Time
	sent, taken  uint64 // bytes of data
	peerTook     uint64 // of sent, as the peer's end says
}

var (
	_ link.Stream      = (*Stream)(nil)
	_ link.ChunkWriter = (*Stream)(nil)
	_ link.Breaker     = (*Stream)(nil)
)

func newStream(l *Lane) *Stream { return &Stream{lane: l} }

// CloseWrite implements link.Stream. It does not wait for the peer: what cannot be sent at once follows by itself.
func (s *Stream) CloseWrite() error { return s.closeWrite(false) }

// CloseSoon implements link.Finisher: the end waits in the lane for the next stream's first bytes, and saves a system
// call here and a wake-up there.
func (s *Stream) CloseSoon() error { return s.closeWrite(true) }

func (s *Stream) closeWrite(soon bool) error {
	s.mu.Lock()
	switch {
	case s.err != nil:
		defer s.mu.Unlock()
		return s.err
	case s.closed:
		s.mu.Unlock()
		return net.ErrClosed
	case s.writeClosed:
		s.mu.Unlock()
		return nil
	}
	s.writeClosed = true
	s.soon = soon && s.endReceived && s.lane.opens
	s.mu.Unlock()
	s.endWriting()
	return nil
}

// endWriting sends the end, behind a Write that is interrupted where there is one.
func (s *Stream) endWriting() {
	l := s.lane
	if l.write.TryLock() {
		s.sendEnd()
		l.write.Unlock()
		return
	}
	s.mu.Lock()
	if s.err == nil && !s.endBegun { // else the lane may be another stream's by now, or being buried
		s.sendDeadline = past
		_ = l.sock.SetWriteDeadline(past)
	}
	s.mu.Unlock()
	l.session.spawn(func() {
		l.write.Lock()
		defer l.write.Unlock()
		s.sendEnd()
	})
}

// sendEnd is called with lane.write held.
func (s *Stream) sendEnd() {
	l := s.lane
	s.mu.Lock()
	if s.err != nil || s.endBegun {
		s.mu.Unlock()
		return
	}
	s.endBegun = true
	s.heard.Store(true)
	taken, soon := s.taken, s.soon && s.sent == s.peerTook
	if !s.sendDeadline.IsZero() {
		_ = l.sock.SetWriteDeadline(time.Time{}) // never after bury's, which comes after s.err
	}
	s.mu.Unlock()
	var b [link.ChunkHeaderSize + endSize]byte
	_, err := l.conn.Write(appendEnd(b[:0], taken))
	sent := soon
	if err == nil && !soon {
		sent, err = l.sock.TryFlush()
	}
	if err != nil || sent {
		s.ended(err)
		return
	}
	l.session.spawn(func() {
		l.write.Lock()
		err := l.sock.Flush()
		l.write.Unlock()
		s.ended(err)
	})
}

// ended is called when the end was sent, or could not be.
func (s *Stream) ended(err error) {
	if err != nil {
		if !s.lane.buried.Load() { // bury interrupts, and the reset is still to be sent
			s.lane.end(err)
		}
		return
	}
	s.mu.Lock()
	s.endSent = true
	s.mu.Unlock()
	s.releaseIfDone()
}

func (s *Stream) receiveEnd(read uint64) {
	s.mu.Lock()
	s.endReceived = true
	s.peerTook = read
	s.mu.Unlock()
}

// releaseIfDone gives the lane back when both directions have ended.
func (s *Stream) releaseIfDone() {
	l := s.lane
	s.mu.Lock()
	if !s.endSent || !s.endReceived || s.released || s.err != nil {
		s.mu.Unlock()
		return
	}
	s.released = true
	if !s.readDeadline.IsZero() {
		_ = l.sock.SetReadDeadline(time.Time{})
	}
	reusable := !l.opens || s.sent == s.peerTook && !l.tired.Load()
	moved := s.sent + s.taken
	s.mu.Unlock()
	if moved > wornAfter && l.worn() {
		l.tired.Store(true)
		reusable = reusable && !l.opens // an acceptor says so itself, once it has the lane back
	}
	if !l.session.left(s, reusable) {
		l.leave()
	}
}

// Reset implements link.Stream. The lane ends with it, unless the peer has never heard of the stream.
func (s *Stream) Reset(code uint16) {
	s.mu.Lock()
	if s.err != nil || s.released || s.endBegun && s.endReceived {
		s.mu.Unlock()
		return
	}
	s.err = &link.ResetError{Code: code, Local: true}
	s.writeClosed = true
	s.mu.Unlock()
	fresh := !s.heard.Load() && s.lane.untouched()
	if fresh {
		_ = s.lane.sock.SetDeadline(time.Time{})
	}
	if !s.lane.session.left(s, fresh) {
		s.lane.bury(code)
	}
}

// Close implements link.Stream.
func (s *Stream) Close() error {
	s.lookForEnd()
	s.mu.Lock()
	if s.closed || s.err != nil || s.released {
		s.closed = true
		s.mu.Unlock()
		return nil
	}
	writing := !s.lane.write.TryLock()
	if !writing {
		defer s.lane.write.Unlock()
	}
	noting := writing && !s.writeClosed && s.lane.noting.Load() // what is being written is no Write of the stream's
	if !s.endReceived || writing && !s.writeClosed && !noting {
		s.mu.Unlock()
		s.Reset(link.CodeCanceled)
		return nil
	}
	s.closed, s.writeClosed = true, true
	s.mu.Unlock()
	switch {
	case !writing:
		s.sendEnd()
	case noting:
		s.endWriting()
	}
	s.releaseIfDone()
	return nil
}

// speaks reports whether the peer must wait for this side's end.
func (s *Stream) speaks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.endBegun
}

// abort ends the stream with its lane, and reports whether that cut it short.
func (s *Stream) abort(err error) (cut bool) {
	s.mu.Lock()
	if s.err != nil || s.released {
		s.mu.Unlock()
		return false
	}
	if cut = !s.endBegun || !s.endReceived; cut {
		s.err = err
	}
	s.released = true
	s.writeClosed = true
	s.mu.Unlock()
	s.lane.session.left(s, false)
	if cut {
		s.Broke(err)
	}
	return cut
}

// SetDeadline implements link.Stream.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements link.Stream. It never fails: on a connection that is gone, Read says so.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.released && !s.doomed {
		s.readDeadline = t
		_ = s.lane.sock.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements link.Stream. It never fails: on a connection that is gone, Write says so.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.writeClosed {
		s.sendDeadline = t
		_ = s.lane.sock.SetWriteDeadline(t)
	}
	return nil
}
