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

func TestATryThatIsOverLosesNoByteOfTheBody(t *testing.T) {
	src := &gated{make(chan []byte)}
	b := newBody(src)
	first, _ := b.reader()
	stale := make(chan error)
	go func() {
		_, err := first.Read(make([]byte, 100))
		stale <- err
	}()
	src.c <- []byte("one") // the first try is in Read, and takes these
	if err := <-stale; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := first.Read(make([]byte, 100))
		stale <- err
	}()
	second, ok := b.reader()
	if !ok {
		t.Fatal("the body cannot begin again")
	}
	all := make(chan []byte)
	go func() {
		got, err := io.ReadAll(second)
		if err != nil {
			t.Error(err)
		}
		all <- got
	}()
	src.c <- []byte("two")
	src.c <- []byte("three")
	close(src.c)
	if got := <-all; string(got) != "onetwothree" {
		t.Fatalf("the second try reads %q, expected onetwothree", got)
	}
	if err := <-stale; !errors.Is(err, errOldBody) {
		t.Fatalf("the first try reads on: %v", err)
	}
}

func TestABodyBeginsAgainUpToWhatIsKept(t *testing.T) {
	for _, c := range []struct {
		size  int
		again bool
	}{{0, true}, {1, true}, {keep, true}, {keep + 1, false}, {1 << 20, false}} {
		want := bytes.Repeat([]byte("0123456789abcde\n"), c.size/16+1)[:c.size]
		b := newBody(io.NopCloser(bytes.NewReader(want)))
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
