package linktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

func bothEndsOpenAndAccept(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	c, d := joined(t, p.Server, p.Client)
	before := p.Server.Received()
	write(t, a, []byte("to the server"))
	write(t, c, []byte("to the client"))
	if s := string(read(t, b, 13)); s != "to the server" {
		t.Errorf("the server read %q", s)
	}
	if s := string(read(t, d, 13)); s != "to the client" {
		t.Errorf("the client read %q", s)
	}
	if after := p.Server.Received(); after < before+13 {
		t.Errorf("Received went from %d to %d over 13 bytes", before, after)
	}
	for _, s := range []link.Session{p.Client, p.Server} {
		if s.Streams() != 2 || s.Err() != nil || s.Info().Transport == "" {
			t.Errorf("streams %d, error %v, info %+v; expected 2, none, a transport", s.Streams(), s.Err(), s.Info())
		}
	}
}

func earlyData(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	st, err := p.Client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	early := bytes.Repeat([]byte("early "), 10_000)
	write(t, st, early)
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	peer, err := p.Server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, early) {
		t.Errorf("read %d bytes, %v; expected %d and the end", len(got), err, len(early))
	}
}

func streamLimit(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{MaxStreams: 4, StreamLimitCode: 19})
	var near, far []link.Stream
	for range 4 {
		a, b := joined(t, p.Client, p.Server)
		near, far = append(near, a), append(far, b)
	}
	refused := func() error {
		st, err := p.Client.Open(t.Context())
		if err != nil {
			return err
		}
		defer st.Close()
		_, _ = st.Write([]byte{1})
		_, err = st.Read(make([]byte, 1))
		return err
	}
	err := refused()
	if reset, ok := errors.AsType[*link.ResetError](err); !errors.Is(err, link.ErrStreamLimit) && (!ok || reset.Code != 19) {
		t.Fatalf("a fifth stream: got %v, expected ErrStreamLimit or a reset with code 19", err)
	}
	for i := range near { // those within the limit do not notice
		write(t, near[i], []byte("x"))
		read(t, far[i], 1)
	}
	joined(t, p.Server, p.Client) // nor does the other side's limit
	near[0].Reset(96)
	go func() { // answers the one that is admitted at last
		st, err := p.Server.Accept(t.Context())
		if err == nil {
			_ = st.CloseWrite()
		}
	}()
	eventually(t, "a stream is admitted after another ended", func() bool { return errors.Is(refused(), io.EOF) })
}

func acceptEndsWithItsContext(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	got := inBackground(func() error { _, err := p.Server.Accept(ctx); return err })
	cancel()
	if err := within(t, "Accept", got); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, expected context.Canceled", err)
	}
	if _, err := p.Client.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: got %v, expected context.Canceled", err)
	}
	joined(t, p.Client, p.Server) // the next one is not lost with the context
}

func closeEndsEveryCall(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	a, _ := joined(t, p.Client, p.Server)
	idle, _ := joined(t, p.Client, p.Server)
	calls := map[string]<-chan error{
		"Read":   inBackground(func() error { _, err := a.Read(make([]byte, 1)); return err }),
		"Write":  inBackground(func() error { _, err := a.Write(make([]byte, 1<<20)); return err }),
		"Accept": inBackground(func() error { _, err := p.Client.Accept(t.Context()); return err }),
	}
	cause := errors.New("a reason of ours")
	closed := make(chan struct{}, 3)
	for range cap(closed) {
		go func() { p.Client.Close(cause); closed <- struct{}{} }()
	}
	for range cap(closed) {
		within(t, "Close", closed)
	}
	for name, c := range calls {
		err := within(t, name, c)
		wantLost(t, "pending "+name, err)
		if !errors.Is(err, cause) {
			t.Errorf("pending %s: got %v, expected one that wraps the cause", name, err)
		}
	}
	_, err := p.Client.Open(t.Context())
	wantLost(t, "Open", err)
	_, err = p.Client.Accept(t.Context())
	wantLost(t, "Accept", err)
	_, err = idle.Read(make([]byte, 1))
	wantLost(t, "Read of an idle stream", err)
	_, err = idle.Write([]byte{1})
	wantLost(t, "Write of an idle stream", err)
	wantLost(t, "Err", p.Client.Err())
	within(t, "Done", p.Client.Done())
	within(t, "the peer's Done", p.Server.Done())
	wantLost(t, "the peer's Err", p.Server.Err())
	if n := p.Client.Streams(); n != 0 {
		t.Errorf("%d streams open after Close", n)
	}
}

// settled waits until a count has stopped to grow: what had arrived before may still be being read.
func settled(count func() uint64) uint64 {
	for {
		n := count()
		time.Sleep(100 * time.Millisecond)
		if count() == n {
			return n
		}
	}
}

func vanishedPeer(t *testing.T, h Harness) {
	p := h.pair(t, tight, tight)
	a, b := joined(t, p.Client, p.Server)
	p.Vanish()
	before := settled(p.Server.Received)
	write(t, a, []byte("into the void"))
	got := inBackground(func() error { _, err := a.Read(make([]byte, 1)); return err })
	sent := inBackground(func() error { _, err := a.Write(make([]byte, 8<<20)); return err })
	_ = b.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := b.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("%d bytes arrived from a peer that vanished", n)
	}
	if after := p.Server.Received(); after != before {
		t.Errorf("Received grew by %d although the peer vanished", after-before)
	}
	if err := p.Client.Err(); err != nil {
		t.Errorf("the session judged silence by itself: %v", err)
	}
	cause := errors.New("no sign of life")
	for _, s := range []link.Session{p.Client, p.Server} {
		closed := inBackground(func() error { s.Close(cause); return nil })
		_ = within(t, "Close", closed)
	}
	for name, c := range map[string]<-chan error{"Read": got, "Write": sent} {
		wantLost(t, "pending "+name, within(t, name, c))
	}
}

func cutLink(t *testing.T, h Harness) {
	p := h.pair(t, link.Config{}, link.Config{})
	a, b := joined(t, p.Client, p.Server)
	write(t, b, []byte("half a mess"))
	read(t, a, 4)
	p.Server.Close(nil)
	_, err := io.ReadAll(a)
	if err == nil {
		t.Fatal("a cut link was taken for an end")
	}
	wantLost(t, "Read", err)
	within(t, "Done", p.Client.Done())
	wantLost(t, "Err", p.Client.Err())
}
