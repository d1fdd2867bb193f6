package chunked

import (
	"net"
	"os"

	"github.com/fairlead/fairlead/protocol/link"
)

// Write implements link.Stream. It returns once the last of p is queued.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	if err := s.writeErrLocked(); err != nil {
		s.mu.Unlock()
		return 0, err
	}
	s.writers++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.writers--
		s.mu.Unlock()
		s.sendEnd() // where CloseWrite came meanwhile
	}()
	n := 0
	for n < len(p) {
		k, err := s.writeSome(p[n:])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// writeSome queues what fits into one chunk and the credit, waiting for both.
func (s *Stream) writeSome(p []byte) (int, error) {
	for {
		expired := s.writeDeadline.channel()
		k, err := s.takeCredit(min(len(p), link.WriteSize), isClosed(expired))
		if err != nil {
			return 0, err
		}
		if k > 0 {
			if s.carrier.Data(p[:k], s.writeStop, expired) {
				return k, nil
			}
			s.mu.Lock()
			s.credit += k + link.ChunkHeaderSize
			s.mu.Unlock()
			continue // and find out why
		}
		select {
		case <-s.writable:
		case <-s.writeStop:
		case <-expired:
		}
	}
}

// takeCredit takes credit for a chunk of up to n bytes: 0 when there is none.
func (s *Stream) takeCredit(n int, expired bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writeErrLocked(); err != nil {
		return 0, err
	}
	if expired {
		return 0, os.ErrDeadlineExceeded
	}
	if n = min(n, s.credit-link.ChunkHeaderSize); n <= 0 {
		return 0, nil
	}
	s.credit -= n + link.ChunkHeaderSize
	return n, nil
}

func (s *Stream) writeErrLocked() error {
	if s.err != nil {
		return s.err
	}
	if s.writeClosed {
		return net.ErrClosed
	}
	return nil
}
