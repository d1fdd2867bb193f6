package lanelink

import (
	"encoding/binary"
	"fmt"

	"github.com/fairlead/fairlead/protocol/link"
)

// endSize is the payload of a lane's end: read u64, how many bytes of the other direction its sender has read so far.
// Whoever opened the stream knows from it whether the lane is really free: bytes that the peer has still to read would
// be in the way of the next stream.
const endSize = 8

// chunkNote says something of the lane between two chunks of a stream: 1 to MaxNote bytes that are not the stream's.
const chunkNote link.ChunkType = 5

// MaxNote is the most that a note may say, in bytes.
const MaxNote = 24 << 10

// parseHeader is link.ParseChunkHeader for lanes: ends have a payload, there are notes, and there is no credit.
func parseHeader(b [link.ChunkHeaderSize]byte) (link.ChunkHeader, error) {
	h := link.ChunkHeader{Type: link.ChunkType(b[0]), Length: int(b[1])<<16 | int(b[2])<<8 | int(b[3])}
	switch {
	case h.Type == link.ChunkEnd && h.Length == endSize, h.Type == chunkNote && h.Length > 0 && h.Length <= MaxNote:
		return h, nil
	case h.Type == link.ChunkEnd, h.Type == link.ChunkCredit, h.Type == chunkNote:
		return h, fmt.Errorf("%w: type %d of %d bytes on a lane", link.ErrMalformedChunk, h.Type, h.Length)
	}
	return link.ParseChunkHeader(b)
}

func appendNote(b, note []byte) []byte {
	b = append(b, byte(chunkNote), byte(len(note)>>16), byte(len(note)>>8), byte(len(note))) //nolint:gosec // at most MaxNote
	return append(b, note...)
}

func appendEnd(b []byte, read uint64) []byte {
	b = append(b, byte(link.ChunkEnd), 0, 0, endSize)
	return binary.BigEndian.AppendUint64(b, read)
}
