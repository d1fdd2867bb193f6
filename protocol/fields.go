package protocol

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"
)

// A payload is a sequence of fields:
//
//	 0        1        2        3
//	+--------+--------+--------+----------------
//	|C| num  |     length      | value ...
//	+--------+--------+--------+----------------
//
// C (0x80) marks a field that a reader must know: an unknown one is refused, any other unknown field is skipped.
const (
	critical    = 0x80
	fieldHeader = 3
)

// writer appends fields; err keeps the first value that does not fit.
type writer struct {
	b   []byte
	err error
}

func (w *writer) bytes(key byte, v []byte, limit int) {
	if len(v) > limit {
		if w.err == nil {
			w.err = fmt.Errorf("field %d: expected at most %d bytes, got %d", key&^critical, limit, len(v))
		}
		return
	}
	w.b = append(w.b, key, byte(len(v)>>8), byte(len(v)))
	w.b = append(w.b, v...)
}

// string leaves an empty value out: absent and empty mean the same.
func (w *writer) string(key byte, v string, limit int) {
	if v == "" {
		return
	}
	if len(v) > limit || !utf8.ValidString(v) {
		if w.err == nil {
			w.err = fmt.Errorf("field %d: expected at most %d bytes of UTF-8, got %d bytes", key&^critical, limit, len(v))
		}
		return
	}
	w.b = append(w.b, key, byte(len(v)>>8), byte(len(v)))
	w.b = append(w.b, v...)
}

// uint writes v big-endian in size bytes; zero is left out.
func (w *writer) uint(key byte, v uint64, size int) {
	if v == 0 {
		return
	}
	w.b = append(w.b, key, 0, byte(size))
	for i := size - 1; i >= 0; i-- {
		w.b = append(w.b, byte(v>>(8*i)))
	}
}

// nested writes what fill writes as one field's value.
func (w *writer) nested(key byte, fill func(*writer)) {
	at := len(w.b)
	w.b = append(w.b, key, 0, 0)
	fill(w)
	n := len(w.b) - at - fieldHeader
	if n > 0xFFFF {
		if w.err == nil {
			w.err = fmt.Errorf("field %d: expected at most 65535 bytes, got %d", key&^critical, n)
		}
		return
	}
	binary.BigEndian.PutUint16(w.b[at+1:], uint16(n))
}

// field is one decoded field; its value aliases the payload.
type field struct {
	num      byte
	critical bool
	value    []byte
}

// eachField walks the payload. handle reports whether it knows the field; an unknown critical one is refused.
func eachField(payload []byte, handle func(field) (known bool, err error)) error {
	for len(payload) > 0 {
		if len(payload) < fieldHeader {
			return malformed("a field header of %d bytes, got %d", fieldHeader, len(payload))
		}
		n := int(binary.BigEndian.Uint16(payload[1:]))
		if n > len(payload)-fieldHeader {
			return malformed("field %d announces %d bytes, %d are left", payload[0]&^critical, n, len(payload)-fieldHeader)
		}
		f := field{num: payload[0] &^ critical, critical: payload[0]&critical != 0, value: payload[fieldHeader : fieldHeader+n]}
		known, err := handle(f)
		if err != nil {
			return err
		}
		if !known && f.critical {
			return malformed("unknown critical field %d", f.num)
		}
		payload = payload[fieldHeader+n:]
	}
	return nil
}

func (f field) uint(size int) (uint64, error) {
	if len(f.value) != size {
		return 0, malformed("field %d: expected %d bytes, got %d", f.num, size, len(f.value))
	}
	var v uint64
	for _, b := range f.value {
		v = v<<8 | uint64(b)
	}
	return v, nil
}

func (f field) string(limit int) (string, error) {
	if len(f.value) > limit {
		return "", malformed("field %d: expected at most %d bytes, got %d", f.num, limit, len(f.value))
	}
	if !utf8.Valid(f.value) {
		return "", malformed("field %d: expected UTF-8", f.num)
	}
	return string(f.value), nil
}

func (f field) bytes(limit int) ([]byte, error) {
	if len(f.value) > limit {
		return nil, malformed("field %d: expected at most %d bytes, got %d", f.num, limit, len(f.value))
	}
	return append([]byte(nil), f.value...), nil
}

func setUint[T ~uint8 | ~uint16 | ~uint32 | ~uint64](dst *T, f field, size int) error {
	v, err := f.uint(size)
	*dst = T(v)
	return err
}

func setString(dst *string, f field, limit int) (err error) {
	*dst, err = f.string(limit)
	return err
}

func setFlag(dst *bool, f field) error {
	v, err := f.uint(1)
	if err == nil && v > 1 {
		return malformed("field %d: expected 0 or 1, got %d", f.num, v)
	}
	*dst = v == 1
	return err
}

func setMillis(dst *time.Duration, f field) error {
	v, err := f.uint(4)
	*dst = time.Duration(v) * time.Millisecond
	return err
}

func tunnelName(f field) (TunnelName, error) {
	t, err := ParseTunnelName(string(f.value))
	if err != nil {
		return "", malformed("%v", err)
	}
	return t, nil
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// millis rounds up, so that a short time does not become none, and saturates at 49 days.
func millis(d time.Duration) uint64 {
	return uint64(min(max(0, (d+time.Millisecond-1)/time.Millisecond), 1<<32-1))
}
