package memlink

import (
	"bytes"
	"slices"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/chunked"
)

// carrier takes one stream's chunks to its other end. It never blocks: the peer's window bounds what is on the wire.
type carrier struct {
	session *Session
	opener  bool
	other   *carrier
	stream  *chunked.Stream
}

func (c *carrier) Data(p []byte, _, _ <-chan struct{}) int {
	for piece := range slices.Chunk(p, link.WriteSize) {
		c.send(link.AppendData(make([]byte, 0, link.ChunkHeaderSize+len(piece)), piece))
	}
	return len(p)
}

func (c *carrier) End()                { c.send(link.AppendEnd(nil)) }
func (c *carrier) Reset(code uint16)   { c.send(link.AppendReset(nil, code)) }
func (c *carrier) Credit(bytes uint32) { c.send(link.AppendCredit(nil, bytes)) }

// RTT implements chunked.Carrier: memory has none that is worth a window.
func (c *carrier) RTT() time.Duration { return 0 }

func (c *carrier) send(chunk []byte) {
	c.session.wire.send(func() { c.other.receive(chunk) })
}

func (c *carrier) receive(chunk []byte) {
	s := c.session
	s.mu.Lock()
	lost := s.err != nil
	if !lost {
		s.received += uint64(len(chunk))
	}
	s.mu.Unlock()
	if lost {
		return
	}
	if err := c.stream.ReadChunk(bytes.NewReader(chunk)); err != nil {
		s.Close(err)
	}
}

func (c *carrier) Release(bool) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.streams[c]; !ok {
		return
	}
	delete(s.streams, c)
	if c.opener {
		s.opened--
	}
}
