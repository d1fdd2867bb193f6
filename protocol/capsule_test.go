package protocol

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestDatagramsKeepTheirBounds(t *testing.T) {
	var wire []byte
	payloads := []string{"", "a", strings.Repeat("b", 62), strings.Repeat("c", 63), strings.Repeat("d", 64), strings.Repeat("e", 20_000), strings.Repeat("f", MaxDatagram)}
	for _, p := range payloads {
		var err error
		if wire, err = AppendDatagram(wire, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if got := hex.EncodeToString(wire[:6]); got != "000100000200" { // type, length, context; RFC 9297 §3.2, RFC 9298 §5
		t.Errorf("got %s", got)
	}
	r, buf := bufio.NewReader(bytes.NewReader(wire)), make([]byte, MaxDatagram)
	for _, want := range payloads {
		if n, err := ReadDatagram(r, buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("got %d bytes, %v, want %d", n, err, len(want))
		}
	}
	if _, err := ReadDatagram(r, buf); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	if _, err := AppendDatagram(nil, make([]byte, MaxDatagram+1)); err == nil {
		t.Error("a datagram beyond the largest is taken")
	}
}

func TestWhatIsNoUDPPayloadIsPassedOverOrRefused(t *testing.T) {
	buf := make([]byte, MaxDatagram)
	for name, c := range map[string]struct {
		hex  string
		want string
		err  error
	}{
		"another type":        {"4123" + "03" + "616263" + "00" + "02" + "00" + "78", "x", nil},
		"another context":     {"00" + "02" + "02" + "61" + "00" + "02" + "00" + "78", "x", nil},
		"no context":          {"00" + "00" + "00" + "02" + "00" + "78", "x", nil},
		"a long context":      {"00" + "05" + "8000000061" + "00" + "02" + "00" + "78", "a", nil},
		"long varints":        {"80000000" + "c000000000000002" + "00" + "78", "x", nil},
		"too long":            {"00" + "80020000", "", ErrMalformed},
		"too long to skip":    {"01" + "c0ffffffffffffff", "", ErrMalformed},
		"a cut context":       {"00" + "01" + "80", "", ErrMalformed},
		"cut in its length":   {"00" + "40", "", io.ErrUnexpectedEOF},
		"cut in its payload":  {"00" + "05" + "00" + "6162", "", io.ErrUnexpectedEOF},
		"cut in what is none": {"01" + "05" + "6162", "", io.ErrUnexpectedEOF},
		"cut in its type":     {"80", "", io.ErrUnexpectedEOF},
	} {
		wire, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		n, err := ReadDatagram(bufio.NewReader(bytes.NewReader(wire)), buf)
		if string(buf[:n]) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v", name, buf[:n], err)
		}
	}
}

func FuzzReadDatagram(f *testing.F) {
	b, err := AppendDatagram(nil, []byte("hello"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x41, 0x23, 3, 1, 2, 3})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r, buf := bufio.NewReader(bytes.NewReader(wire)), make([]byte, MaxDatagram)
		for {
			n, err := ReadDatagram(r, buf)
			if err != nil {
				return
			}
			again, err := AppendDatagram(nil, buf[:n])
			if err != nil || len(again) > n+6 {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
	})
}
