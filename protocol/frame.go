package protocol

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A frame is one message:
//
//	 0        1        2        3        4
//	+--------+--------+--------+--------+----------------
//	|  type  |          length          | payload ...
//	+--------+--------+--------+--------+----------------
const frameHeader = 4

// payloadLimit is the most a frame of type t may announce; zero for a type this version does not know.
func payloadLimit(t Type) int {
	switch t {
	case TypeHello, TypeTunnelStatus, TypeDrain:
		return MaxControlPayload
	case TypeWelcome:
		return MaxWelcomePayload
	case TypePing, TypePong:
		return MaxPingPayload
	case TypeProof, TypeGrantKey:
		return MaxProofPayload
	case TypeAsk:
		return MaxAskPayload
	case TypeAnswer:
		return MaxAnswerPayload
	case TypeOpen:
		return MaxOpenPayload
	case TypeOpened:
		return MaxOpenedPayload
	}
	return 0
}

// Append encodes m as one frame behind b and returns the extended slice. It fails, leaving b as it was, where a
// value is longer than its limit.
func Append(b []byte, m Message) ([]byte, error) {
	at := len(b)
	w := &writer{b: append(b, byte(m.frameType()), 0, 0, 0)}
	m.append(w)
	n := len(w.b) - at - frameHeader
	if w.err == nil && n > payloadLimit(m.frameType()) {
		w.err = fmt.Errorf("expected a payload of at most %d bytes, got %d", payloadLimit(m.frameType()), n)
	}
	if w.err != nil {
		return b, fmt.Errorf("encoding %T: %w", m, w.err)
	}
	w.b[at+1], w.b[at+2], w.b[at+3] = byte(n>>16), byte(n>>8), byte(n)
	return w.b, nil
}

// Write encodes m and writes it in one Write.
func Write(w io.Writer, m Message) error {
	b, err := Append(nil, m)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// ReadControl reads one control frame: *Hello, *Welcome, *TunnelStatus, *Drain, *Ping, *Pong, *Proof, *Ask, *Answer or *GrantKey. It blocks as r does
// and reads not one byte beyond the frame. An end before the first byte is io.EOF, a later one io.ErrUnexpectedEOF;
// what breaks the protocol wraps ErrMalformed.
func ReadControl(r io.Reader) (Message, error) {
	t, n, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	var m Message
	switch t {
	case TypeHello:
		m = new(Hello)
	case TypeWelcome:
		m = new(Welcome)
	case TypeTunnelStatus:
		m = new(TunnelStatus)
	case TypeDrain:
		m = new(Drain)
	case TypePing:
		m = new(Ping)
	case TypePong:
		m = new(Pong)
	case TypeProof:
		m = new(Proof)
	case TypeAsk:
		m = new(Ask)
	case TypeAnswer:
		m = new(Answer)
	case TypeGrantKey:
		m = new(GrantKey)
	default:
		return nil, malformed("expected a control frame, got type %d", t)
	}
	return m, readPayload(r, n, m)
}

// ReadOpen reads the Open that begins a data stream, under the same rules as ReadControl.
func ReadOpen(r io.Reader) (*Open, error) {
	m := new(Open)
	return m, readOne(r, m)
}

// ReadAsk reads an Ask and nothing else, under the same rules as ReadControl.
func ReadAsk(r io.Reader) (*Ask, error) {
	m := new(Ask)
	return m, readOne(r, m)
}

// ReadAnswer reads the answer to an Ask, under the same rules as ReadControl.
func ReadAnswer(r io.Reader) (*Answer, error) {
	m := new(Answer)
	return m, readOne(r, m)
}

// ReadOpened reads the answer to an Open, under the same rules as ReadControl.
func ReadOpened(r io.Reader) (*Opened, error) {
	m := new(Opened)
	return m, readOne(r, m)
}

func readOne(r io.Reader, m Message) error {
	t, n, err := readHeader(r)
	if err != nil {
		return err
	}
	if t != m.frameType() {
		return malformed("expected frame type %d, got %d", m.frameType(), t)
	}
	return readPayload(r, n, m)
}

func readHeader(r io.Reader) (Type, int, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, 0, err
	}
	t, n := Type(h[0]), int(binary.BigEndian.Uint32(h[:])&0xFFFFFF)
	if limit := payloadLimit(t); n > limit {
		return 0, 0, malformed("frame type %d of %d bytes, at most %d expected", t, n, limit)
	}
	return t, n, nil
}

func readPayload(r io.Reader, n int, m Message) error {
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return m.decode(payload)
}
