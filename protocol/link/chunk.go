package link

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ChunkType says what a chunk is.
type ChunkType uint8

// The chunk types. A chunk is a header of 4 bytes (type u8, payload length u24, big endian) and its payload.
const (
	ChunkData   ChunkType = 1 // 1 to MaxChunkData bytes of the stream
	ChunkEnd    ChunkType = 2 // empty: no more data follows
	ChunkReset  ChunkType = 3 // code u16: both directions have ended
	ChunkCredit ChunkType = 4 // bytes u32: that many more may be sent
)

// Sizes in bytes.
const (
	ChunkHeaderSize = 4
	MaxChunkData    = 64 << 10

	// WriteSize is the most data that our side puts into one chunk: with the chunk's header and yamux's it fills one
	// TLS record of 16 KiB exactly. Whoever copies with buffers of a multiple of it makes no small chunks.
	WriteSize = 16<<10 - ChunkHeaderSize - 12
)

// ErrMalformedChunk is wrapped by every error about a chunk that no honest peer sends: the link ends.
var ErrMalformedChunk = errors.New("malformed chunk")

// ChunkHeader is a chunk's type and the length of the payload that follows.
type ChunkHeader struct {
	Type   ChunkType
	Length int
}

// ParseChunkHeader reads a header and checks the length against its type, before anything is allocated for it.
func ParseChunkHeader(b [ChunkHeaderSize]byte) (ChunkHeader, error) {
	h := ChunkHeader{Type: ChunkType(b[0]), Length: int(b[1])<<16 | int(b[2])<<8 | int(b[3])}
	low, high := 0, 0
	switch h.Type {
	case ChunkData:
		low, high = 1, MaxChunkData // an empty one would be work without progress
	case ChunkEnd:
	case ChunkReset:
		low, high = 2, 2
	case ChunkCredit:
		low, high = 4, 4
	default:
		return ChunkHeader{}, fmt.Errorf("%w: expected type 1 to 4, got %d", ErrMalformedChunk, b[0])
	}
	if h.Length < low || h.Length > high {
		return ChunkHeader{}, fmt.Errorf("%w: type %d: expected a length of %d to %d, got %d",
			ErrMalformedChunk, h.Type, low, high, h.Length)
	}
	return h, nil
}

// AppendData appends a data chunk; len(p) must be 1 to MaxChunkData.
func AppendData(b, p []byte) []byte { return append(appendHeader(b, ChunkData, len(p)), p...) }

// PutDataHeader makes b a data chunk: its first ChunkHeaderSize bytes are overwritten, the rest is the payload.
func PutDataHeader(b []byte) {
	n := len(b) - ChunkHeaderSize
	b[0], b[1], b[2], b[3] = byte(ChunkData), byte(n>>16), byte(n>>8), byte(n)
}

// AppendEnd appends an end chunk.
func AppendEnd(b []byte) []byte { return appendHeader(b, ChunkEnd, 0) }

// AppendReset appends a reset chunk.
func AppendReset(b []byte, code uint16) []byte {
	return binary.BigEndian.AppendUint16(appendHeader(b, ChunkReset, 2), code)
}

// AppendCredit appends a credit chunk.
func AppendCredit(b []byte, bytes uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, ChunkCredit, 4), bytes)
}

func appendHeader(b []byte, t ChunkType, length int) []byte {
	return append(b, byte(t), byte(length>>16), byte(length>>8), byte(length))
}
