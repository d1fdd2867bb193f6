package lanelink

import (
	"encoding/binary"
	"fmt"

	"github.com/fairlead/fairlead/protocol/link"
)

// reader follows the chunks of a lane, which may come in pieces.
type reader struct {
	buf  [link.ChunkHeaderSize + endSize + 1]byte
	have int // bytes of buf

	kind link.ChunkType
	left int    // bytes of a data chunk still to come
	code uint16 // of the reset
	read uint64 // of the end

	note  []byte // being read; nil between notes
	noted int    // bytes of it that are there
}

// next reads the next chunk's header, and all of a chunk other than data; a note it gives to whoever hears them. It can be called again after a deadline.
// l.read is held.
func (r *reader) next(l *Lane) error {
	if err := r.fill(l, link.ChunkHeaderSize, 0); err != nil {
		return err
	}
	h, err := parseHeader([link.ChunkHeaderSize]byte(r.buf[:]))
	if err != nil {
		return err
	}
	if h.Type == chunkNote {
		return r.nextNote(l, h.Length)
	}
	if h.Type != link.ChunkData {
		beyond := 0
		if h.Type == link.ChunkEnd && l.opens {
			beyond = 1 // nothing of the peer's may follow: the next stream would take it for its own
		}
		if err := r.fill(l, link.ChunkHeaderSize+h.Length, beyond); err != nil {
			return err
		}
		if r.have > link.ChunkHeaderSize+h.Length {
			return fmt.Errorf("%w: bytes behind an end", link.ErrMalformedChunk)
		}
	}
	r.have, r.kind = 0, h.Type
	switch payload := r.buf[link.ChunkHeaderSize:]; h.Type {
	case link.ChunkData:
		r.left = h.Length
	case link.ChunkReset:
		r.code = binary.BigEndian.Uint16(payload)
	case link.ChunkEnd:
		r.read = binary.BigEndian.Uint64(payload)
	}
	return nil
}

// nextNote reads a note of n bytes.
func (r *reader) nextNote(l *Lane, n int) error {
	if r.note == nil {
		r.note, r.noted = make([]byte, n), 0
	}
	for r.noted < n {
		k, err := l.readConn(r.note[r.noted:])
		r.noted += k
		if err != nil {
			return err
		}
	}
	note := r.note
	r.have, r.kind, r.note = 0, chunkNote, nil
	if l.heard != nil {
		l.heard(note)
	}
	return nil
}

// fill reads n bytes of the chunk; where the last of them arrive with others, as many as beyond of those too.
func (r *reader) fill(l *Lane, n, beyond int) error {
	for r.have < n {
		k, err := l.readConn(r.buf[r.have : n+beyond])
		r.have += k
		if err != nil {
			return err
		}
	}
	return nil
}
