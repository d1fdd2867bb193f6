package protocol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// The bytes of a UDP call, both ways: capsules (RFC 9297 §3.2), of which DATAGRAM with context ID 0 carries one UDP payload
// (RFC 9298 §5). Other types, and other contexts, are passed over.
const (
	// MaxDatagram is the largest UDP payload over IPv4, in bytes.
	MaxDatagram = 65_507

	capsuleDatagram = 0
	maxCapsule      = MaxDatagram + 8 // with a context ID
	maxSkipped      = 1 << 20         // bytes of one capsule of another type
)

// AppendDatagram appends a capsule with a UDP payload, of at most MaxDatagram bytes.
func AppendDatagram(b, payload []byte) ([]byte, error) {
	if len(payload) > MaxDatagram {
		return b, fmt.Errorf("expected a datagram of at most %d bytes, got %d", MaxDatagram, len(payload))
	}
	b = append(b, capsuleDatagram)
	b = appendVarint(b, uint64(len(payload))+1)
	return append(append(b, 0), payload...), nil
}

// ReadDatagram reads the next UDP payload into p, which has room for MaxDatagram bytes, and returns its length. It blocks as r
// does. An end between two capsules is io.EOF, within one io.ErrUnexpectedEOF; what breaks the protocol wraps ErrMalformed.
func ReadDatagram(r *bufio.Reader, p []byte) (int, error) {
	for {
		kind, err := readVarint(r)
		if err != nil {
			return 0, err
		}
		length, err := readVarint(r)
		if err != nil {
			return 0, within(err)
		}
		if kind != capsuleDatagram {
			if length > maxSkipped {
				return 0, malformed("a capsule of %d bytes, at most %d are expected", length, maxSkipped)
			}
			if _, err := r.Discard(int(length)); err != nil {
				return 0, within(err)
			}
			continue
		}
		if length > maxCapsule {
			return 0, malformed("a datagram of %d bytes, at most %d are expected", length, maxCapsule)
		}
		n, ours, err := readPayloadOf(r, int(length), p)
		if err != nil || ours {
			return n, err
		}
	}
}

// readPayloadOf reads a DATAGRAM's value; ours says that its context is that of UDP payloads.
func readPayloadOf(r *bufio.Reader, length int, p []byte) (n int, ours bool, err error) {
	first, err := r.Peek(min(length, 1))
	if err != nil || length == 0 {
		return 0, false, within(err)
	}
	size := 1 << (first[0] >> 6)
	if size > length {
		return 0, false, malformed("a datagram that ends within its context")
	}
	context, err := readVarint(r)
	if err != nil {
		return 0, false, within(err)
	}
	if context != 0 {
		_, err := r.Discard(length - size)
		return 0, false, within(err)
	}
	if length-size > len(p) {
		return 0, false, malformed("a datagram of %d bytes, at most %d are expected", length-size, len(p))
	}
	if _, err := io.ReadFull(r, p[:length-size]); err != nil {
		return 0, false, within(err)
	}
	return length - size, true, nil
}

func within(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendVarint writes a variable-length integer (RFC 9000 §16).
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v>>8)|0x40, byte(v))
	}
	return append(b, byte(v>>24)|0x80, byte(v>>16), byte(v>>8), byte(v))
}

func readVarint(r *bufio.Reader) (uint64, error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	v := uint64(first & 0x3f)
	for range 1<<(first>>6) - 1 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, within(err)
		}
		v = v<<8 | uint64(c)
	}
	return v, nil
}
