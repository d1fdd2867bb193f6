package lanelink

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// chunkBuffers hold a chunk that Write makes of its caller's bytes.
var chunkBuffers = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Write implements link.Stream. What the kernel has not taken when a deadline ends it goes out with the next call.
func (s *Stream) Write(p []byte) (int, error) {
	buf := chunkBuffers.Get().(*[chunkSize]byte)
	defer chunkBuffers.Put(buf)
	n := 0
	for {
		k := copy(buf[link.ChunkHeaderSize:], p[n:])
		written, err := s.WriteChunk(buf[:link.ChunkHeaderSize+k])
		n += written
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// Finish implements link.Finisher: the last bytes and the end leave with one system call, so that the peer, which reads
// both at once, need not wait for the end.
func (s *Stream) Finish(p []byte) (int, error) {
	head := max(0, len(p)-maxData)
	n, err := 0, error(nil)
	if head > 0 {
		n, err = s.Write(p[:head])
	}
	if err == nil && len(p) > head {
		buf := chunkBuffers.Get().(*[chunkSize]byte)
		defer chunkBuffers.Put(buf)
		k := copy(buf[link.ChunkHeaderSize:], p[head:])
		k, err = s.writeChunk(buf[:link.ChunkHeaderSize+k], true)
		n += k
	}
	if err != nil {
		return n, err
	}
	return n, s.CloseWrite() // does nothing where the end has left
}

// Ended implements link.Finisher.
func (s *Stream) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endReceived && s.err == nil
}

// MaxChunk implements link.ChunkWriter.
func (s *Stream) MaxChunk() int { return maxData }

// WriteChunk implements link.ChunkWriter.
func (s *Stream) WriteChunk(b []byte) (int, error) { return s.writeChunk(b, false) }

// writeChunk writes one chunk, and the end behind it where it is the last.
func (s *Stream) writeChunk(b []byte, last bool) (int, error) {
	l := s.lane
	n := len(b) - link.ChunkHeaderSize
	if err := s.mayWrite(n); err != nil || n == 0 {
		return 0, err
	}
	l.write.Lock()
	defer l.write.Unlock()
	if err := s.mayWrite(n); err != nil {
		return 0, err
	}
	if l.sock.Pending() > little { // of a Write that a deadline ended
		if err := l.sock.Flush(); err != nil {
			return 0, s.writeFault(err)
		}
	}
	s.mu.Lock()
	s.sent += uint64(n) //nolint:gosec // a count
	s.mu.Unlock()
	link.PutDataHeader(b)
	_, err := l.conn.Write(b)
	if err == nil && last {
		s.mu.Lock()
		s.writeClosed = true
		s.mu.Unlock()
		s.sendEnd()
		return n, nil
	}
	if err == nil {
		err = l.sock.Flush()
	}
	if err != nil {
		return n, s.writeFault(err)
	}
	return n, nil
}

func (s *Stream) mayWrite(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil && !s.closed:
		return s.err
	case s.closed, s.writeClosed:
		return net.ErrClosed
	case !s.sendDeadline.IsZero() && !time.Now().Before(s.sendDeadline):
		return os.ErrDeadlineExceeded
	}
	if n > 0 {
		s.heard.Store(true)
	}
	return nil
}

// writeFault says why bytes did not leave. lane.write is held.
func (s *Stream) writeFault(err error) error {
	s.mu.Lock()
	switch {
	case s.err != nil:
		defer s.mu.Unlock()
		return s.err
	case s.writeClosed:
		s.mu.Unlock()
		return net.ErrClosed
	case isTimeout(err):
		s.mu.Unlock()
		return os.ErrDeadlineExceeded
	}
	s.mu.Unlock()
	s.peerGone(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return &link.LostError{Cause: err} // both ends had been said
	}
	return s.err
}

// Read implements link.Stream. It waits for the first byte only, and takes what has arrived behind it.
func (s *Stream) Read(p []byte) (int, error) {
	if err := s.mayRead(); err != nil {
		return 0, err // without the lock: the lane may be another stream's by now
	}
	l := s.lane
	l.read.Lock()
	defer l.read.Unlock()
	n := 0
	for n < len(p) {
		if err := s.mayRead(); err != nil {
			if n > 0 {
				break
			}
			return 0, err
		}
		if n > 0 && !l.sock.HasRecord() {
			break
		}
		l.sock.Hold(n > 0) // a record need not bring anything
		k, err := s.readSome(p[n:])
		n += k
		if err != nil {
			if n > 0 {
				break // it comes again
			}
			return 0, err
		}
	}
	if n > 0 {
		l.sock.Hold(false)
		s.mu.Lock()
		s.taken += uint64(n)
		s.mu.Unlock()
	}
	return n, nil
}

func (s *Stream) mayRead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.err != nil:
		return s.err
	case s.endReceived:
		return io.EOF
	case !s.readDeadline.IsZero() && !time.Now().Before(s.readDeadline):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// readSome reads once from the connection: a piece of data, or a chunk that says something. lane.read is held.
func (s *Stream) readSome(p []byte) (int, error) {
	l := s.lane
	if l.in.left == 0 {
		if err := l.in.next(l); err != nil {
			return 0, s.readFault(err)
		}
		s.heard.Store(true)
		switch l.in.kind {
		case chunkNote:
			return 0, nil
		case link.ChunkEnd:
			s.receiveEnd(l.in.read)
			s.releaseIfDone()
			return 0, nil
		case link.ChunkReset:
			s.abort(&link.ResetError{Code: l.in.code})
			l.end(nil)
			return 0, nil
		}
	}
	n, err := l.readConn(p[:min(len(p), l.in.left)])
	l.in.left -= n
	if err != nil {
		return n, s.readFault(err)
	}
	return n, nil
}

// readFault says why no bytes come. lane.read is held.
func (s *Stream) readFault(err error) error {
	s.mu.Lock()
	own := s.err
	waiting := s.readDeadline
	s.mu.Unlock()
	switch {
	case own != nil:
		return own
	case isTimeout(err):
		if waiting.IsZero() || time.Now().Before(waiting) {
			return nil // the deadline was moved meanwhile
		}
		return os.ErrDeadlineExceeded
	}
	s.lane.end(cutCause(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return net.ErrClosed // both ends had been said
	}
	return s.err
}

// lookForEnd takes the peer's end in where it has arrived already, as it has behind an answer whose length was known.
func (s *Stream) lookForEnd() {
	l := s.lane
	if s.mayRead() != nil || !l.read.TryLock() {
		return
	}
	defer l.read.Unlock()
	if s.mayRead() == nil && l.in.left == 0 && l.sock.HasRecord() {
		l.sock.Hold(true)
		_, _ = s.readSome(nil)
		l.sock.Hold(false)
	}
}

// peerGone finds out why a connection broke: a reset that the peer has sent may wait behind bytes that nobody read, and
// that do not count any more. It ends the lane, after burialTime at the latest.
func (s *Stream) peerGone(cause error) {
	s.mu.Lock()
	again := s.doomed
	s.doomed = true
	s.mu.Unlock()
	if again {
		return
	}
	l := s.lane
	_ = l.sock.SetReadDeadline(time.Now().Add(burialTime))
	for deadline := time.Now().Add(burialTime); time.Now().Before(deadline) && !l.isDone(); time.Sleep(time.Millisecond) {
		if l.read.TryLock() { // a Read that is under way sees for itself
			s.discard()
			l.read.Unlock()
			break
		}
	}
	l.end(cutCause(cause))
}

// discard reads up to a reset. lane.read is held.
func (s *Stream) discard() {
	l := s.lane
	var b [4 << 10]byte
	for {
		if l.in.left > 0 {
			n, err := l.readConn(b[:min(len(b), l.in.left)])
			l.in.left -= n
			if err != nil {
				return
			}
			continue
		}
		if l.in.next(l) != nil {
			return
		}
		if l.in.kind == link.ChunkReset {
			s.abort(&link.ResetError{Code: l.in.code})
			return
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error) //nolint:errorlint // the connection's own
	return ok && t.Timeout()
}
