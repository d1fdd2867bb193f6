package protocol

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestAnAnnouncedLengthIsCheckedBeforeAnythingIsRead(t *testing.T) {
	for _, typ := range []Type{TypeHello, TypeWelcome, TypeTunnelStatus, TypeDrain, TypePing, TypePong, TypeProof, TypeAsk, TypeAnswer, TypeOpen, TypeOpened} {
		frame := []byte{byte(typ), 0xFF, 0xFF, 0xFF} // 16 MiB announced, none of it there
		read := &countingReader{r: bytes.NewReader(append(frame, make([]byte, 64)...))}
		var err error
		switch typ {
		case TypeOpen:
			_, err = ReadOpen(read)
		case TypeOpened:
			_, err = ReadOpened(read)
		default:
			_, err = ReadControl(read)
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("type %d: %v; expected ErrMalformed", typ, err)
		}
		if read.n != frameHeader {
			t.Errorf("type %d: %d bytes read; expected the header alone", typ, read.n)
		}
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestUnknownFieldsAreSkippedUnlessCritical(t *testing.T) {
	frame, err := Append(nil, &Ping{Token: 7})
	if err != nil {
		t.Fatal(err)
	}
	with := func(key byte) []byte {
		b := append(bytes.Clone(frame), key, 0, 2, 'x', 'y')
		b[3] += 5
		return b
	}
	if m, err := ReadControl(bytes.NewReader(with(99))); err != nil || m.(*Ping).Token != 7 {
		t.Errorf("unknown field: %v, %v; expected it to be skipped", m, err)
	}
	if _, err := ReadControl(bytes.NewReader(with(critical | 99))); !errors.Is(err, ErrMalformed) {
		t.Errorf("unknown critical field: %v; expected ErrMalformed", err)
	}
}

func TestACutFrameIsNeverACleanEnd(t *testing.T) {
	for _, v := range golden() {
		whole, err := Append(nil, v.m)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			_, err := readAny(whole[:n])
			if n == 0 && err != io.EOF || n > 0 && err == nil || n > 0 && err == io.EOF {
				t.Errorf("%s cut at %d of %d: %v", v.name, n, len(whole), err)
			}
		}
		if _, err := readAny(whole); err != nil {
			t.Errorf("%s whole: %v", v.name, err)
		}
	}
}

func TestReadingTakesNotOneByteMoreThanTheFrame(t *testing.T) {
	frame, err := Append(nil, &Open{Tunnel: "orders", Network: HTTP, Method: "GET", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(append(frame, "GET / HTTP/1.1"...))
	if _, err := ReadOpen(iotest.OneByteReader(r)); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "GET / HTTP/1.1" {
		t.Errorf("behind the frame: %q", rest)
	}
}

func TestTooLongValuesAreRefusedBeforeTheWire(t *testing.T) {
	long := strings.Repeat("a", MaxPath+1)
	many := &Hello{Agent: "a"}
	for range 1000 {
		many.Tunnels = append(many.Tunnels, TunnelName(strings.Repeat("t", 63)))
	}
	for name, m := range map[string]Message{
		"path":     &Open{Tunnel: "t", Network: HTTP, Path: long},
		"token":    &Open{Tunnel: "t", Network: HTTP, Token: long},
		"grant":    &Open{Tunnel: "t", Network: HTTP, Grant: make([]byte, MaxGrant+1)},
		"sentence": &Opened{Sentence: long},
		"not utf8": &Opened{Sentence: "\xff"},
		"tunnels":  many,
	} {
		if b, err := Append([]byte("kept"), m); err == nil || string(b) != "kept" {
			t.Errorf("%s: %d bytes, %v; expected an error and the slice as it was", name, len(b), err)
		}
	}
}

func TestWrongFramesAreRefused(t *testing.T) {
	frame := func(typ Type, payload ...byte) []byte {
		return append([]byte{byte(typ), 0, 0, byte(len(payload))}, payload...)
	}
	for name, b := range map[string][]byte{
		"unknown type":         frame(15),
		"open on control":      frame(TypeOpen),
		"field beyond payload": frame(TypePing, critical|1, 0, 9, 1),
		"short field header":   frame(TypePing, critical|1, 0),
		"wrong integer size":   frame(TypePing, critical|1, 0, 2, 1, 2),
		"flag other than 0, 1": frame(TypeTunnelStatus, critical|1, 0, 1, 'a', critical|2, 0, 1, 2),
		"bad utf8":             frame(TypeDrain, 2, 0, 1, 0xFF),
		"bad tunnel name":      frame(TypeTunnelStatus, critical|1, 0, 1, '/'),
		"status without name":  frame(TypeTunnelStatus, critical|2, 0, 1, 1),
		"hello without a name": frame(TypeHello),
		"verdict without name": frame(TypeWelcome, critical|7, 0, 0),
	} {
		if m, err := ReadControl(bytes.NewReader(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v; expected ErrMalformed", name, m, err)
		}
	}
	for name, b := range map[string][]byte{
		"opened instead":  frame(TypeOpened),
		"without tunnel":  frame(TypeOpen, critical|2, 0, 1, byte(TCP)),
		"without network": frame(TypeOpen, critical|1, 0, 1, 'a'),
	} {
		if m, err := ReadOpen(bytes.NewReader(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v; expected ErrMalformed", name, m, err)
		}
	}
}

// R07
func TestTunnelNamesKeepTheirGrammar(t *testing.T) {
	for _, bad := range []string{"", "Orders", "örders", "о", "..", "*", "a/b", "a.b", "a\x00", "a\r\n", strings.Repeat("a", 64), strings.Repeat("a", 300)} {
		if _, err := ParseTunnelName(bad); err == nil {
			t.Errorf("%q: taken; expected a refusal", bad)
		}
	}
	for _, good := range []string{"a", "orders-2", strings.Repeat("a", 63)} {
		if n, err := ParseTunnelName(good); err != nil || string(n) != good {
			t.Errorf("%q: %q, %v", good, n, err)
		}
	}
}

func TestVersionsAreNegotiated(t *testing.T) {
	if v, err := Negotiate(1, 9); err != nil || v != MaxVersion {
		t.Errorf("a newer peer that still speaks ours: %d, %v; expected %d", v, err, MaxVersion)
	}
	for _, r := range [][2]Version{{MaxVersion + 1, MaxVersion + 5}, {0, 0}, {2, 1}} {
		if v, err := Negotiate(r[0], r[1]); !errors.Is(err, &Error{Code: VersionUnsupported}) {
			t.Errorf("range %v: %d, %v; expected version_unsupported", r, v, err)
		}
	}
}

func TestEveryCodeHasOneNameAndNumber(t *testing.T) {
	seen := map[string]Code{}
	for c, name := range codeNames {
		if other, twice := seen[name]; twice {
			t.Errorf("%q names both %d and %d", name, other, c)
		}
		seen[name] = c
	}
	if got := Code(999).String(); got != "code_999" {
		t.Errorf("an unknown code prints %q", got)
	}
}

func TestAnErrorWithoutACodeMayHaveBeenSent(t *testing.T) {
	cause := errors.New("secret detail")
	e := AsError(cause)
	if e.Code != Internal || !e.Sent || e.Sentence == cause.Error() || !errors.Is(e, cause) {
		t.Errorf("%+v; expected internal, sent, the cause wrapped and not in the sentence", e)
	}
	refusal := Errorf(NoAgent, "none")
	if AsError(refusal.WithCause(cause)).Code != NoAgent || refusal.Sent {
		t.Errorf("%+v; expected the code to be kept", refusal)
	}
}

func TestDurationsAreRoundedUpAndBounded(t *testing.T) {
	for d, want := range map[time.Duration]uint64{-1: 0, 0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 1 << 62: 1<<32 - 1} {
		if got := millis(d); got != want {
			t.Errorf("%d ns: %d ms; expected %d", d, got, want)
		}
	}
}
