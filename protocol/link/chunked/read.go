package chunked

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/fairlead/fairlead/protocol/link"
)

// Read implements link.Stream.
func (s *Stream) Read(p []byte) (int, error) {
	for {
		expired := s.readDeadline.channel()
		n, err := s.tryRead(p, isClosed(expired))
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-s.readable:
		case <-s.readStop:
		case <-expired:
		}
	}
}

// tryRead reads what is there: 0 and nil when nothing is.
func (s *Stream) tryRead(p []byte, expired bool) (int, error) {
	s.mu.Lock()
	switch {
	case s.err != nil:
		defer s.mu.Unlock()
		return 0, s.err
	case s.closed:
		s.mu.Unlock()
		return 0, net.ErrClosed
	case expired:
		s.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	n := s.buf.read(p)
	atEnd := s.endReceived && s.buf.size == 0
	grant := 0
	if n > 0 && !s.endReceived {
		grant = s.window.consumed(s.buf.size)
	}
	s.mu.Unlock()
	switch {
	case grant > 0:
		s.carrier.Credit(uint32(grant))
	case n > 0 && atEnd:
		s.releaseIfDone()
	case n == 0 && atEnd && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// ReadChunk reads one chunk of the peer's from r and acts on it. An error that wraps link.ErrPeerFlooded or
// link.ErrMalformedChunk is the peer's fault, and the link must end; any other one is r's, io.EOF at the end of r
// between two chunks. Calls must not overlap.
func (s *Stream) ReadChunk(r io.Reader) error {
	b := s.small[:]
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	h, err := link.ParseChunkHeader(s.small)
	if err != nil {
		return err
	}
	switch h.Type {
	case link.ChunkData:
		return midChunk(s.receiveData(r, h.Length))
	case link.ChunkEnd:
		return s.receiveEnd()
	}
	if _, err := io.ReadFull(r, b[:h.Length]); err != nil {
		return midChunk(err)
	}
	if h.Type == link.ChunkReset {
		s.ResetByPeer(binary.BigEndian.Uint16(b))
		return nil
	}
	return s.receiveCredit(binary.BigEndian.Uint32(b))
}

func midChunk(err error) error {
	if err == io.EOF { //nolint:errorlint // r's own, never wrapped
		return io.ErrUnexpectedEOF
	}
	return err
}

func (s *Stream) receiveData(r io.Reader, n int) error {
	s.mu.Lock()
	granted, ended := s.window.granted, s.endReceived
	inWindow := s.window.arrived(n + link.ChunkHeaderSize)
	s.mu.Unlock()
	if ended {
		return fmt.Errorf("%w: data after the end", link.ErrMalformedChunk)
	}
	if !inWindow {
		return fmt.Errorf("%w: a chunk of %d bytes on a stream that had %d left", link.ErrPeerFlooded, n, granted)
	}
	for n > 0 {
		s.mu.Lock()
		if s.err != nil { // what still arrives after a reset is of no use, and no credit follows it
			s.mu.Unlock()
			_, err := io.CopyN(io.Discard, r, int64(n))
			return err
		}
		room := s.buf.reserve(n)
		s.mu.Unlock()
		k, err := io.ReadFull(r, room)
		s.mu.Lock()
		s.buf.commit(k)
		if s.err != nil {
			s.buf.drop()
		}
		s.mu.Unlock()
		notify(s.readable)
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

func (s *Stream) receiveEnd() error {
	s.mu.Lock()
	again := s.endReceived
	s.endReceived = true
	s.mu.Unlock()
	if again {
		return fmt.Errorf("%w: a second end", link.ErrMalformedChunk)
	}
	notify(s.readable)
	s.releaseIfDone()
	return nil
}

func (s *Stream) receiveCredit(n uint32) error {
	s.mu.Lock()
	s.credit += int(n)
	over := s.credit > maxCredit
	s.mu.Unlock()
	if over {
		return fmt.Errorf("%w: credit beyond %d bytes", link.ErrMalformedChunk, maxCredit)
	}
	notify(s.writable)
	return nil
}
