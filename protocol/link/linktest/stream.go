package linktest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// tight are windows that a test fills quickly.
var tight = link.Config{InitialWindow: 256 << 10, MaxWindow: 256 << 10}

func halfCloseEachWay(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	write(t, a, []byte("request"))
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "request" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := a.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after CloseWrite: got %v, expected net.ErrClosed", err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Errorf("a second CloseWrite: %v", err)
	}
	answer := bytes.Repeat([]byte("answer"), 200_000) // more than the first window
	sent := inBackground(func() error {
		if _, err := b.Write(answer); err != nil {
			return err
		}
		return b.CloseWrite()
	})
	if got, err := io.ReadAll(a); err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("after the half-close: read %d bytes, %v; expected %d and the end", len(got), err, len(answer))
	}
	if err := within(t, "sending the answer", sent); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read after the end: %d, %v; expected io.EOF again", n, err)
	}
}

func closeWriteEndsAPendingWrite(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	a, b := joined(t, p.Client, p.Server)
	sent := inBackground(func() error { _, err := a.Write(make([]byte, 1<<20)); return err })
	read(t, b, 100_000)
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the pending Write", sent); !errors.Is(err, net.ErrClosed) {
		t.Errorf("pending Write: got %v, expected net.ErrClosed", err)
	}
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Errorf("reading to the end: %v", err)
	}
}

func resetIsSeenAtOnce(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	a, b := joined(t, p.Client, p.Server)
	write(t, a, make([]byte, 100_000)) // stays unread
	sent := inBackground(func() error { _, err := b.Write(make([]byte, 1<<20)); return err })
	a.Reset(29)
	wantReset(t, "the peer's pending Write", within(t, "the pending Write", sent), 29, false)
	n, err := b.Read(make([]byte, 1))
	if n != 0 {
		t.Errorf("read %d bytes that came before the reset", n)
	}
	wantReset(t, "the peer's Read", err, 29, false)
	_, err = b.Write([]byte{1})
	wantReset(t, "the peer's next Write", err, 29, false)

	a, b = joined(t, p.Client, p.Server)
	got := inBackground(func() error { _, err := a.Read(make([]byte, 1)); return err })
	b.Reset(7)
	wantReset(t, "the opener's pending Read", within(t, "the pending Read", got), 7, false)
}

func localResetEndsPendingCalls(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	a, _ := joined(t, p.Client, p.Server)
	sent := inBackground(func() error { _, err := a.Write(make([]byte, 1<<20)); return err })
	got := inBackground(func() error { _, err := a.Read(make([]byte, 1)); return err })
	a.Reset(16)
	a.Reset(17)
	wantReset(t, "pending Write", within(t, "the pending Write", sent), 16, true)
	wantReset(t, "pending Read", within(t, "the pending Read", got), 16, true)
	_, err := a.Read(make([]byte, 1))
	wantReset(t, "next Read", err, 16, true)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v does not look closed to net/http", err)
	}
	_, err = a.Write([]byte{1})
	wantReset(t, "next Write", err, 16, true)
	wantReset(t, "CloseWrite", a.CloseWrite(), 16, true)
	if err := a.Close(); err != nil {
		t.Errorf("Close after a reset: %v", err)
	}
}

func resetAfterBothEnds(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	write(t, a, []byte("last words"))
	if err := errors.Join(a.CloseWrite(), b.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(a); err != nil {
		t.Fatal(err)
	}
	a.Reset(9)
	if got, err := io.ReadAll(b); err != nil || string(got) != "last words" {
		t.Errorf("read %q, %v; expected all of it and the end", got, err)
	}
}

func closeAfterPeersEnd(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	if err := b.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(a); err != nil {
		t.Fatal(err)
	}
	write(t, a, make([]byte, 100_000))
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: got %v, expected net.ErrClosed", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: got %v, expected net.ErrClosed", err)
	}
	if got, err := io.ReadAll(b); err != nil || len(got) != 100_000 {
		t.Errorf("the peer read %d bytes, %v; expected all of them and the end", len(got), err)
	}
}

func closeBeforePeersEnd(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	write(t, a, []byte("half a mess"))
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadAll(b)
	wantReset(t, "the peer's Read", err, link.CodeCanceled, false)
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: got %v, expected net.ErrClosed", err)
	}
}

func readDeadline(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	got := inBackground(func() error { _, err := b.Read(make([]byte, 1)); return err })
	_ = b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if err := within(t, "Read past its deadline", got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, expected os.ErrDeadlineExceeded", err)
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the next Read: got %v, expected os.ErrDeadlineExceeded", err)
	}
	write(t, b, []byte("the other direction goes on"))
	read(t, a, 27)
	_ = b.SetDeadline(time.Now().Add(time.Hour))
	write(t, a, []byte("revived"))
	if s := string(read(t, b, 7)); s != "revived" {
		t.Errorf("read %q", s)
	}
}

func writeDeadline(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	a, b := joined(t, p.Client, p.Server)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i >> 8)
	}
	_ = a.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := a.Write(data)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n >= len(data) {
		t.Fatalf("wrote %d bytes, %v; expected os.ErrDeadlineExceeded", n, err)
	}
	_ = a.SetWriteDeadline(time.Time{})
	sent := inBackground(func() error { _, err := a.Write(data[n:]); return err })
	if !bytes.Equal(read(t, b, len(data)), data) {
		t.Error("bytes were lost or repeated around the deadline")
	}
	if err := within(t, "Write after the revival", sent); err != nil {
		t.Error(err)
	}
}

func breakIsTold(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	told := func(s link.Stream) <-chan error {
		c := make(chan error, 2)
		s.(link.Breaker).OnBreak(func(err error) { c <- err })
		return c
	}
	near, far := joined(t, p.Client, p.Server)
	nearTold, farTold := told(near), told(far)
	stuck := inBackground(func() error { _, err := near.Write(make([]byte, 16<<20)); return err })
	time.Sleep(20 * time.Millisecond) // for much to be on its way, unread
	near.Reset(7)
	within(t, "the stuck Write", stuck)
	for _, what := range []string{"the peer", "who asks late"} {
		err := within(t, what+" is told", farTold)
		farTold = told(far)
		if !errors.Is(err, link.ErrLost) { // a lane's code may be behind what nobody read
			wantReset(t, what+" is told", err, 7, false)
		}
	}
	if len(nearTold) > 0 {
		t.Error("this side was told of its own reset")
	}
	_, far = joined(t, p.Client, p.Server)
	farTold = told(far)
	p.Client.Close(nil)
	wantLost(t, "the peer is told of the link's end", within(t, "being told of the link's end", farTold))
}
