package linktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

// echo answers every stream of s with its own bytes, until s ends, and returns a func that waits for all of it.
func echo(s link.Session) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			st, err := s.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				defer st.Close()
				if _, err := io.Copy(st, st); err == nil {
					_ = st.CloseWrite()
				}
			})
		}
	})
	return wg.Wait
}

func thousandStreams(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	wait := echo(p.Server)
	var wg sync.WaitGroup
	streams := 1000
	if h.Streams > 0 {
		streams = h.Streams
	}
	errs := make(chan error, streams)
	for i := range cap(errs) {
		wg.Go(func() { errs <- exchange(t.Context(), p.Client, byte(i)) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]link.Session{"client": p.Client, "server": p.Server} {
		eventually(t, name+" has no stream left", func() bool { return s.Streams() == 0 })
	}
	p.Client.Close(nil)
	wait()
}

func exchange(ctx context.Context, s link.Session, fill byte) error {
	st, err := open(ctx, s)
	if err != nil {
		return err
	}
	defer st.Close()
	data := bytes.Repeat([]byte{fill}, 5000)
	if _, err := st.Write(data); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(st)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%d bytes came back, expected %d of %d", len(got), len(data), fill)
	}
	return nil
}

// stalledStreamStallsNoOther is proved by bytes: while one stream's reader does not read, another carries a hundred
// times its window.
func stalledStreamStallsNoOther(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	stalled, stalledFar := joined(t, p.Client, p.Server)
	free, freeFar := joined(t, p.Client, p.Server)
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	stalledEnd := inBackground(func() error {
		_, err := stalled.Write(data)
		return errors.Join(err, stalled.CloseWrite())
	})
	freeEnd := inBackground(func() error {
		for range 25 << 20 / len(data[:1<<20]) {
			if _, err := free.Write(data[:1<<20]); err != nil {
				return err
			}
		}
		return free.CloseWrite()
	})
	if n, err := io.Copy(io.Discard, freeFar); err != nil || n != 25<<20 {
		t.Fatalf("the other stream carried %d bytes, %v; expected %d", n, err, 25<<20)
	}
	if err := within(t, "the other stream's writer", freeEnd); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stalledEnd:
		t.Fatalf("4 MiB were taken from the stalled stream's writer (%v): that is no back-pressure", err)
	default:
	}
	sum := sha256.New()
	if n, err := io.Copy(sum, stalledFar); err != nil || n != int64(len(data)) {
		t.Fatalf("the stalled stream carried %d bytes, %v; expected %d once read", n, err, len(data))
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("the stalled stream's bytes were damaged")
	}
	if err := within(t, "the stalled stream's writer", stalledEnd); err != nil {
		t.Fatal(err)
	}
}

// churn ends streams in every way at once, and asks that nothing is left of them.
func churn(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	var wg sync.WaitGroup
	for _, s := range []link.Session{p.Client, p.Server} {
		wait := echo(s)
		defer func() {
			s.Close(nil)
			wait()
		}()
	}
	for _, s := range []link.Session{p.Client, p.Server} {
		for i := range 16 {
			wg.Go(func() {
				for j := range 25 {
					misbehave(t, s, (i+j)%6)
				}
			})
		}
	}
	wg.Wait()
	for _, s := range []link.Session{p.Client, p.Server} {
		eventually(t, "no stream is left", func() bool { return s.Streams() == 0 })
		if err := s.Err(); err != nil {
			t.Errorf("streams that ended took the session along: %v", err)
		}
	}
}

func misbehave(t *testing.T, s link.Session, how int) {
	st, err := open(t.Context(), s)
	if err != nil {
		t.Errorf("opening: %v", err)
		return
	}
	defer st.Close()
	if how == 0 {
		return // nothing was ever said on it
	}
	_, _ = st.Write(make([]byte, 30_000))
	switch how {
	case 1:
		st.Reset(5)
	case 2:
		_ = st.CloseWrite()
		st.Reset(6)
	case 3:
		_, _ = st.Read(make([]byte, 100))
	case 4:
		go st.Reset(7)
		_, _ = st.Write(make([]byte, 200_000))
	case 5:
		if err := st.CloseWrite(); err != nil {
			t.Errorf("closing: %v", err)
		}
		if n, err := io.Copy(io.Discard, st); n != 30_000 || err != nil {
			t.Errorf("%d bytes came back, %v; expected 30000 and the end", n, err)
		}
	}
}
