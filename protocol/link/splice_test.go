package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
)

// joined returns both ends of a stream over a new link.
func joined(t *testing.T) (link.Stream, link.Stream) {
	t.Helper()
	client, server := memlink.Pair(link.Config{}, link.Config{})
	near, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	far, err := server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

type spliced struct {
	aToB, bToA int64
	err        error
}

func spliceInBackground(ctx context.Context, a, b link.Duplex) <-chan spliced {
	done := make(chan spliced, 1)
	go func() {
		var r spliced
		r.aToB, r.bToA, r.err = link.Splice(ctx, a, b)
		done <- r
	}()
	return done
}

func TestSpliceCarriesHalfCloseEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, a := joined(t)
		b, right := joined(t)
		done := spliceInBackground(t.Context(), a, b)
		request := bytes.Repeat([]byte("request "), 100_000)
		go func() {
			_, _ = left.Write(request)
			_ = left.CloseWrite()
		}()
		if got, err := io.ReadAll(right); err != nil || !bytes.Equal(got, request) {
			t.Fatalf("read %d bytes, %v; expected %d and the end", len(got), err, len(request))
		}
		if _, err := right.Write([]byte("answer after the end")); err != nil {
			t.Fatal(err)
		}
		_ = right.CloseWrite()
		if got, err := io.ReadAll(left); err != nil || string(got) != "answer after the end" {
			t.Fatalf("read %q, %v", got, err)
		}
		if r := <-done; r.err != nil || r.aToB != int64(len(request)) || r.bToA != 20 {
			t.Errorf("spliced %+v", r)
		}
	})
}

func TestSplicePassesAResetOnWithItsCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, a := joined(t)
		b, right := joined(t)
		done := spliceInBackground(t.Context(), a, b)
		left.Reset(29)
		_, err := io.ReadAll(right)
		if reset, ok := errors.AsType[*link.ResetError](err); !ok || reset.Code != 29 || reset.Local {
			t.Errorf("the far side got %v, expected the reset with code 29", err)
		}
		if r := <-done; !errors.As(r.err, new(*link.ResetError)) {
			t.Errorf("got %v, expected the reset", r.err)
		}
	})
}

func TestSpliceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, a := joined(t)
		b, right := joined(t)
		cause := errors.New("session too old")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := spliceInBackground(ctx, a, b)
		cancel(cause)
		if r := <-done; !errors.Is(r.err, cause) {
			t.Errorf("got %v, expected the context's cause", r.err)
		}
		for _, st := range []link.Stream{left, right} {
			if _, err := st.Read(make([]byte, 1)); !errors.As(err, new(*link.ResetError)) {
				t.Errorf("a peer got %v, expected a reset", err)
			}
		}
	})
}

func TestSpliceNeverMakesACutLookLikeAnEndOverTCP(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	backend, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	left, a := joined(t)
	done := spliceInBackground(t.Context(), a, accepted.(*net.TCPConn))
	if _, err := left.Write([]byte("half a mess")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(backend, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	left.Reset(96)
	if n, err := backend.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the backend read %d, %v; expected a connection reset", n, err)
	}
	<-done
}

// Neither copy notices by itself: one waits for the other side to take more, the other for it to say something.
func TestSpliceHearsOfAResetWhileTheOtherSideTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, a := joined(t)
		b, right := joined(t)
		done := spliceInBackground(t.Context(), a, b)
		go func() { _, _ = left.Write(make([]byte, 64<<20)) }()
		synctest.Wait() // all windows are full
		left.Reset(9)
		r := <-done
		if reset, ok := errors.AsType[*link.ResetError](r.err); !ok || reset.Code != 9 {
			t.Errorf("ended with %v, expected the reset", r.err)
		}
		if _, err := io.Copy(io.Discard, right); err == nil {
			t.Error("the other side took the cut for an end")
		}
	})
}
