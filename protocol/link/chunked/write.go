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

// maxWrite is how much is handed to the carrier at once, in bytes.
const maxWrite = 4 * link.WriteSize

// writeSome queues what the credit admits of p, waiting for both credit and room.
func (s *Stream) writeSome(p []byte) (int, error) {
	for {
		expired := s.writeDeadline.channel()
		n, err := s.takeCredit(min(len(p), maxWrite), isClosed(expired))
		if err != nil {
			return 0, err
		}
		if n == 0 {
			select {
			case <-s.writable:
			case <-s.writeStop:
			case <-expired:
			}
			continue
		}
		k := s.carrier.Data(p[:n], s.writeStop, expired)
		if k < n {
			s.mu.Lock()
			s.credit += cost(n) - cost(k)
			s.mu.Unlock()
		}
		if k > 0 {
			return k, nil
		}
	}
}

// cost is the credit that n bytes take, with the headers of their chunks.
func cost(n int) int {
	return n + (n+link.WriteSize-1)/link.WriteSize*link.ChunkHeaderSize
}

// takeCredit takes credit for up to n bytes and returns for how many: 0 when there is none.
func (s *Stream) takeCredit(n int, expired bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writeErrLocked(); err != nil {
		return 0, err
	}
	if expired {
		return 0, os.ErrDeadlineExceeded
	}
	if s.credit < cost(n) {
		const whole = link.WriteSize + link.ChunkHeaderSize
		n = s.credit/whole*link.WriteSize + max(s.credit%whole-link.ChunkHeaderSize, 0)
	}
	s.credit -= cost(n)
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
