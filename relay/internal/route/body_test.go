package route

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// gated is a body whose bytes come when the test says so.
type gated struct{ c chan []byte }

func (g *gated) Read(p []byte) (int, error) {
	b, ok := <-g.c
	if !ok {
		return 0, io.EOF
	}
	return copy(p, b), nil
}

func (g *gated) Close() error { return nil }

func TestATryThatIsOverLetsGoAndLosesNoByteOfTheBody(t *testing.T) {
	src := &gated{make(chan []byte)}
	b := newBody(src, -1)
	first, _ := b.reader()
	buf := make([]byte, 100)
	go func() { src.c <- []byte("one") }()
	if n, err := first.Read(buf); err != nil || string(buf[:n]) != "one" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	stale := make(chan error)
	go func() {
		_, err := first.Read(make([]byte, 100)) // nothing comes: its pull stays behind, in the caller's body
		stale <- err
	}()
	first.abandon()
	if err := <-stale; !errors.Is(err, errOldBody) {
		t.Fatalf("the first try reads on: %v", err)
	}
	second, ok := b.reader()
	if !ok {
		t.Fatal("the body cannot begin again")
	}
	go func() {
		src.c <- []byte("two")
		src.c <- []byte("three")
		close(src.c)
	}()
	if got, err := io.ReadAll(second); err != nil || string(got) != "onetwothree" {
		t.Fatalf("the second try reads %q, %v, expected onetwothree", got, err)
	}
}

func TestABodyBeginsAgainUpToWhatIsKept(t *testing.T) {
	for _, c := range []struct {
		size  int
		again bool
	}{{0, true}, {1, true}, {keep, true}, {keep + 1, false}, {1 << 20, false}} {
		want := bytes.Repeat([]byte("0123456789abcde\n"), c.size/16+1)[:c.size]
		b := newBody(io.NopCloser(bytes.NewReader(want)), -1)
		first, _ := b.reader()
		if got, err := io.ReadAll(first); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: read %d, %v", c.size, len(got), err)
		}
		second, ok := b.reader()
		if ok != c.again || b.whole() != c.again {
			t.Fatalf("%d bytes: begins again %v, whole %v, expected %v", c.size, ok, b.whole(), c.again)
		}
		if !ok {
			continue
		}
		if got, err := io.ReadAll(second); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: read %d again, %v", c.size, len(got), err)
		}
	}
}
