// Package chunked keeps the promises of link.Stream on top of any carrier that delivers chunks in order: an end that
// is said, resets with a code, deadlines, and flow control by credit with windows that grow with use.
//
// It does not multiplex, dial or start goroutines; memlink and yamuxlink bring the carrier.
package chunked

import (
	"net"
	"sync"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// maxCredit bounds what a peer may let us send, in bytes; more is an overflow or an attack.
const maxCredit = 1 << 30

// A Carrier takes a stream's chunks to the peer, in the order of the calls. Only Data may block. The stream calls it
// without holding a lock, and never after Release, but for a Data or an End that raced with a reset: those are
// dropped.
type Carrier interface {
	// Data copies p and queues it, in chunks of link.WriteSize and what is left. It waits for room until either
	// channel is closed, and returns how many bytes were queued: whole chunks.
	Data(p []byte, stop, expired <-chan struct{}) int
	End()
	// Reset overtakes the data that is queued, and drops it.
	Reset(code uint16)
	Credit(bytes uint32)
	// RTT is the link's round trip, 0 where it is unknown. Unlike the others it is called with a lock.
	RTT() time.Duration
	// Release is called once, when the stream has ended: both directions (and everything was read or given up), or
	// aborted by a reset or with the link, when what is still queued is of no use.
	Release(aborted bool)
}

// Stream is a link.Stream.
type Stream struct {
	link.Break
	carrier       Carrier
	readDeadline  deadline
	writeDeadline deadline
	readable      chan struct{}              // holds a token when there may be something for Read
	writable      chan struct{}              // holds a token when there may be credit for Write
	readStop      chan struct{}              // closed when Read can only fail
	writeStop     chan struct{}              // closed when Write can only fail
	small         [link.ChunkHeaderSize]byte // ReadChunk's

	// mu guards:
	mu          sync.Mutex
	buf         buffer
	window      window
	credit      int   // bytes that the peer lets us send
	err         error // a reset, or the end of the link: final
	writers     int   // Writes under way, which the end must not overtake
	writeClosed bool  // no Write may begin
	endBegun    bool  // the end is being sent
	endSent     bool  // and was
	endReceived bool
	closed      bool // by Close
	released    bool
}

var _ link.Stream = (*Stream)(nil)

// creditMargin is left unused of the first credit, in bytes, so that the chunks which need none (an end, a reset) fit
// into the first window of the carrier too, where that has one of the same size, as yamux does.
const creditMargin = 64

// New makes a stream, open both ways. Its windows grow from budget, which the session's streams share. Both ends must
// agree on cfg.InitialWindow, which is the first credit; it is at least 4 KiB. Credit pays for data chunks with their
// headers: so a flood of tiny ones is bounded too.
func New(carrier Carrier, cfg link.Config, budget *link.Budget) *Stream {
	s := &Stream{
		carrier:       carrier,
		readDeadline:  newDeadline(),
		writeDeadline: newDeadline(),
		readable:      make(chan struct{}, 1),
		writable:      make(chan struct{}, 1),
		readStop:      make(chan struct{}),
		writeStop:     make(chan struct{}),
		window:        newWindow(cfg.InitialWindow, cfg.MaxWindow, budget),
		credit:        cfg.InitialWindow - creditMargin,
	}
	s.window.rtt = carrier.RTT
	return s
}

// Cut ends the stream because nothing more can arrive on it, with err, which must wrap link.ErrLost. It does nothing
// after both directions have ended.
func (s *Stream) Cut(err error) { s.abort(err, true, nil) }

// Fail ends the stream because the link did; err must wrap link.ErrLost.
func (s *Stream) Fail(err error) { s.abort(err, false, nil) }

// SetDeadline implements link.Stream.
func (s *Stream) SetDeadline(t time.Time) error {
	s.readDeadline.set(t)
	s.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements link.Stream.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.readDeadline.set(t)
	return nil
}

// SetWriteDeadline implements link.Stream.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.writeDeadline.set(t)
	return nil
}

// CloseWrite implements link.Stream.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closeWriteLocked()
	s.mu.Unlock()
	s.sendEnd()
	return nil
}

func (s *Stream) closeWriteLocked() {
	if !s.writeClosed {
		s.writeClosed = true
		close(s.writeStop)
	}
}

// sendEnd sends the end that CloseWrite asked for. A Write under way does it instead when it returns.
func (s *Stream) sendEnd() {
	s.mu.Lock()
	if !s.writeClosed || s.endBegun || s.writers > 0 || s.err != nil {
		s.mu.Unlock()
		return
	}
	s.endBegun = true
	s.mu.Unlock()
	s.carrier.End()
	s.mu.Lock()
	s.endSent = true // only now: it lets the other direction release the stream
	s.mu.Unlock()
	s.releaseIfDone()
}

// ResetByPeer ends the stream as if a reset chunk had arrived: for carriers that can learn of one in another way.
func (s *Stream) ResetByPeer(code uint16) { s.abort(&link.ResetError{Code: code}, true, nil) }

// Reset implements link.Stream.
func (s *Stream) Reset(code uint16) {
	s.abort(&link.ResetError{Code: code, Local: true}, true, func() { s.carrier.Reset(code) })
}

// Close implements link.Stream. While a Write is under way it resets: what that Write has left unsaid is a cut.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.closed || s.err != nil {
		s.closed = true
		s.mu.Unlock()
		return nil
	}
	if !s.endReceived || s.writers > 0 {
		s.mu.Unlock()
		s.Reset(link.CodeCanceled)
		return nil
	}
	s.closed = true
	s.closeWriteLocked()
	close(s.readStop)
	s.buf.drop()
	s.mu.Unlock()
	s.sendEnd()
	s.releaseIfDone()
	return nil
}

// abort ends the stream with err, and calls tell, which may be nil, unless it has ended already.
func (s *Stream) abort(err error, unlessBothEnded bool, tell func()) {
	s.mu.Lock()
	if s.err != nil || s.released || unlessBothEnded && s.endBegun && s.endReceived {
		s.mu.Unlock()
		return
	}
	s.err = err
	s.released = true
	s.buf.drop()
	s.window.release()
	s.closeWriteLocked()
	if !s.closed {
		close(s.readStop)
	}
	s.mu.Unlock()
	s.stopTimers()
	if tell != nil {
		tell()
	}
	s.carrier.Release(true)
	if reset, ok := err.(*link.ResetError); !ok || !reset.Local { //nolint:errorlint // made here
		s.Broke(err)
	}
}

// releaseIfDone releases the stream once both directions have ended and nothing is left to read.
func (s *Stream) releaseIfDone() {
	s.mu.Lock()
	done := s.endSent && s.endReceived && s.buf.size == 0 && !s.released
	if done {
		s.released = true
		s.window.release()
	}
	s.mu.Unlock()
	if done {
		s.stopTimers()
		s.carrier.Release(false)
	}
}

// stopTimers lets go of deadlines far away, which would keep an ended stream in memory.
func (s *Stream) stopTimers() {
	s.readDeadline.stop()
	s.writeDeadline.stop()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
