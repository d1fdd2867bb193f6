package quiclink

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead/fairlead/protocol/link"
)

// Stream is a link.Stream.
type Stream struct {
	link.Break
	session    *Session
	q          *quic.Stream
	finalKnown atomic.Bool // the peer has ended its direction, which need not have arrived in full

	// mu guards:
	mu          sync.Mutex
	err         error // a reset: final
	writing     bool
	writeClosed bool
	endRead     bool // Read has returned io.EOF
	closed      bool
	released    bool
}

var _ link.Stream = (*Stream)(nil)

// past is a deadline that has expired, to wake a Write.
var past = time.Unix(1, 0)

// Read implements link.Stream.
func (s *Stream) Read(p []byte) (int, error) {
	if err := s.readErr(); err != nil {
		return 0, err
	}
	n, err := s.q.Read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF { //nolint:errorlint // quic-go's own, never wrapped
		s.mu.Lock()
		s.endRead = true
		s.mu.Unlock()
		s.releaseIfDone()
		return n, io.EOF
	}
	return n, s.translate(err, s.readErr)
}

func (s *Stream) readErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closed:
		return net.ErrClosed
	}
	return nil
}

// Write implements link.Stream.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	if err := s.writeErrLocked(); err != nil {
		s.mu.Unlock()
		return 0, err
	}
	s.writing = true
	s.mu.Unlock()
	n, err := s.q.Write(p)
	s.mu.Lock()
	s.writing = false
	closedMeanwhile := s.writeClosed && s.err == nil
	s.mu.Unlock()
	if closedMeanwhile { // CloseWrite left it to us, as quic-go wants
		s.finish()
	}
	if err == nil {
		return n, nil
	}
	return n, s.translate(err, s.writeErr)
}

func (s *Stream) writeErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeErrLocked()
}

func (s *Stream) writeErrLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.writeClosed:
		return net.ErrClosed
	}
	return nil
}

// translate says in link's words what quic-go said. ours is what this side knows better.
func (s *Stream) translate(err error, ours func() error) error {
	if reset, ok := errors.AsType[*quic.StreamError](err); ok && reset.Remote {
		s.resetByPeer(reset.ErrorCode)
	}
	if known := ours(); known != nil {
		return known
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return s.session.lost(err)
}

// CloseWrite implements link.Stream.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	if s.writeClosed {
		defer s.mu.Unlock()
		if s.closed {
			return net.ErrClosed
		}
		return nil
	}
	s.writeClosed = true
	if s.writing { // quic-go forbids to close beside a Write: wake it, and it does it
		_ = s.q.SetWriteDeadline(past)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	s.finish()
	return nil
}

func (s *Stream) finish() {
	_ = s.q.Close() // fails only after a reset, which everyone else reports
	s.releaseIfDone()
}

// Reset implements link.Stream.
func (s *Stream) Reset(code uint16) {
	s.mu.Lock()
	bothEnded := s.writeClosed && !s.writing && s.finalKnown.Load()
	s.mu.Unlock()
	if bothEnded {
		return
	}
	s.abort(&link.ResetError{Code: code, Local: true}, quic.StreamErrorCode(code))
}

// resetByPeer ends the stream both ways after the peer ended one by a reset.
func (s *Stream) resetByPeer(code quic.StreamErrorCode) {
	ours := uint16(link.CodeCanceled)
	if code <= math.MaxUint16 {
		ours = uint16(code)
	}
	s.abort(&link.ResetError{Code: ours}, code)
}

func (s *Stream) abort(err *link.ResetError, code quic.StreamErrorCode) {
	s.mu.Lock()
	if s.err != nil || s.closed || s.writeClosed && s.endRead {
		s.mu.Unlock()
		return
	}
	s.err = err
	s.mu.Unlock()
	s.q.CancelWrite(code)
	s.q.CancelRead(code)
	s.release()
	if !err.Local {
		s.Broke(err)
	}
}

// sendingEnded hears why our direction ended: of all the ways, only the peer's STOP_SENDING and the end of the connection
// are news.
func (s *Stream) sendingEnded(why error) {
	reset, ok := errors.AsType[*quic.StreamError](why)
	switch {
	case ok && reset.Remote:
		s.resetByPeer(reset.ErrorCode)
	case errors.Is(why, net.ErrClosed): // as all that ends a connection; a stream's own end is not
		s.Broke(s.session.lost(why))
	}
}

// Close implements link.Stream.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.closed || s.err != nil {
		s.mu.Unlock()
		return nil
	}
	if !s.finalKnown.Load() && !s.endRead || s.writing {
		s.mu.Unlock()
		s.Reset(link.CodeCanceled)
		return nil
	}
	s.closed = true
	finish := !s.writeClosed
	s.writeClosed = true
	s.mu.Unlock()
	if finish {
		s.finish()
	}
	s.q.CancelRead(link.CodeCanceled) // gives back what was not read
	s.release()
	return nil
}

func (s *Stream) releaseIfDone() {
	s.mu.Lock()
	done := s.writeClosed && !s.writing && s.endRead
	s.mu.Unlock()
	if done {
		s.release()
	}
}

// release takes the stream out of the count, once.
func (s *Stream) release() {
	s.mu.Lock()
	first := !s.released
	s.released = true
	s.mu.Unlock()
	if first {
		s.session.forget()
	}
}

// SetDeadline implements link.Stream.
func (s *Stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements link.Stream.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.q.SetReadDeadline(t) }

// SetWriteDeadline implements link.Stream.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeClosed {
		return nil // the past one must stay
	}
	return s.q.SetWriteDeadline(t)
}
