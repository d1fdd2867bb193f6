package lanelink_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
)

// net/http begins to read before it writes: a call that its caller gives up in that moment must not leave a Read behind
// that takes the next call's bytes.
func TestReadOfAStreamGivenUpUnsaidTakesNothingOfTheNext(t *testing.T) {
	p := withLanes(t, 4, lanelink.Config{}, lanelink.Config{})
	for range 2 {
		unsaid, err := p.client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			n   int
			err error
		}
		read := make(chan result, 1)
		go func() {
			n, err := unsaid.Read(make([]byte, 100))
			read <- result{n, err}
		}()
		time.Sleep(20 * time.Millisecond) // so that it waits, most likely
		unsaid.Reset(96)
		near, far := p.joined(t)
		if _, err := far.Write([]byte("another's answer")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		_ = near.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(near, b); err != nil || string(b) != "another's answer" {
			t.Errorf("read %q, %v; expected the whole answer", b, err)
		}
		got := <-read
		reset, ok := errors.AsType[*link.ResetError](got.err)
		if got.n != 0 || !ok || !reset.Local {
			t.Fatalf("the stream that was given up read %d bytes, %v; expected its own reset", got.n, got.err)
		}
		near.Reset(96)
	}
}

func TestTailIsKeptHoweverLateItIsRead(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	tail := bytes.Repeat([]byte("tail"), 5000)
	if _, err := near.Write(tail); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(far.CloseWrite(), near.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(near); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond) // lanes are looked at meanwhile, and the connection is half-closed
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, tail) {
		t.Errorf("%d bytes, %v; expected the whole tail and its end", len(got), err)
	}
}

func TestAnswerIsKeptHoweverLateItIsReadWhenThePeerDrains(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	answer := bytes.Repeat([]byte("answer"), 5000)
	if _, err := far.Write(answer); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(near.CloseWrite(), far.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(far); err != nil {
		t.Fatal(err)
	}
	p.server.Drain(25)
	time.Sleep(2500 * time.Millisecond)
	if got, err := io.ReadAll(near); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("%d bytes, %v; expected the whole answer and its end", len(got), err)
	}
}

// A backend that reads nothing must not keep the lane of a call that is long over, although our answer has ended.
func TestResetBehindUnreadBytesIsNoticedAfterOurEndToo(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	if _, err := near.Write(make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	near.Reset(9)
	eventually(t, "the stream has ended", func() bool { return p.server.Streams() == 0 })
}

func TestLaneThatIsCutTellsAPeerWhoReadsNothing(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, _ := p.joined(t)
	_ = near.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for range 1000 { // until neither kernel takes more
		if _, err := near.Write(make([]byte, 60_000)); err != nil {
			break
		}
	}
	p.client.Close(nil)
	eventually(t, "the stream has ended", func() bool { return p.server.Streams() == 0 })
}

func TestResetArrivesBehindAnEndThatHadToWait(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	sent := 0
	for n, err := 1, error(nil); n > 0 || err == nil; sent += n { // until not even the last Write's rest is taken
		_ = near.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err = near.Write(make([]byte, 60_000))
	}
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // so that somebody waits to send the end
	near.Reset(7)
	n, err := io.Copy(io.Discard, struct{ io.Reader }{far})
	if reset, ok := errors.AsType[*link.ResetError](err); ok && reset.Code == 7 {
		return
	}
	if err != nil || int(n) != sent {
		t.Fatalf("read %d of %d bytes, %v; expected the end or the reset", n, sent, err)
	}
	eventually(t, "the reset ends the other direction", func() bool { _, err = far.Write([]byte{1}); return err != nil })
	if reset, ok := errors.AsType[*link.ResetError](err); !ok || reset.Code != 7 {
		t.Errorf("got %v, expected the reset", err)
	}
}

func TestLaneThatEndsAsItsStreamBeginsLeavesNoCount(t *testing.T) {
	p := newPair(t, false, lanelink.Config{}, lanelink.Config{})
	for range 300 {
		_, lane, err := p.add(true)
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { lane.Close(nil); close(ended) }()
		_, _ = st.Write([]byte{1})
		<-ended
		st.Reset(1)
	}
	eventually(t, "no stream is left", func() bool { return p.server.Streams() == 0 && p.client.Streams() == 0 })
}

func TestStreamOnALaneThatEndsIsLost(t *testing.T) {
	p := newPair(t, false, lanelink.Config{}, lanelink.Config{})
	for range 300 {
		lane, _, err := p.add(true)
		if err != nil {
			t.Fatal(err)
		}
		go lane.Close(nil)
		st, err := p.client.Open(t.Context())
		if err != nil {
			continue
		}
		_ = st.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, link.ErrLost) {
			t.Fatalf("got %v, expected one that wraps ErrLost", err)
		}
	}
}

// rawPeer is the peer of a lane on which a session opens streams: it says what it is told to.
func rawPeer(t *testing.T) (peer net.Conn, p *pair, lane *lanelink.Lane) {
	t.Helper()
	p = newPair(t, false, lanelink.Config{}, lanelink.Config{})
	c, s, err := p.network.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if lane, err = p.client.Add(c, true, link.Info{}, nil); err != nil {
		t.Fatal(err)
	}
	return s, p, lane
}

func say(t *testing.T, peer io.Writer, chunks ...[]byte) {
	t.Helper()
	if _, err := peer.Write(bytes.Join(chunks, nil)); err != nil {
		t.Fatal(err)
	}
}

// laneEnd is an agent's end.
func laneEnd(read byte) []byte { return []byte{2, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, read} }

// called opens a stream and writes one byte.
func (p *pair) called(t *testing.T) link.Stream {
	t.Helper()
	st, err := p.client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	return st
}

func wantDone(t *testing.T, lane *lanelink.Lane) {
	t.Helper()
	select {
	case <-lane.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the lane still stands")
	}
}

func TestPeerThatSpeaksOnAFreeLaneLosesIt(t *testing.T) {
	peer, p, lane := rawPeer(t)
	say(t, peer, link.AppendData(nil, []byte("unasked")))
	wantDone(t, lane)
	if _, err := p.client.Open(t.Context()); !errors.Is(err, link.ErrStreamLimit) {
		t.Errorf("got %v, expected no lane", err)
	}
}

func TestNothingFollowsAPeersEnd(t *testing.T) {
	for name, behind := range map[string][]byte{"a chunk": link.AppendData(nil, []byte("smuggled")), "a byte": {1}} {
		t.Run(name, func(t *testing.T) {
			peer, p, lane := rawPeer(t)
			st := p.called(t)
			if err := st.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			say(t, peer, laneEnd(1), behind) // one TLS record
			_, err := st.Read(make([]byte, 1))
			if !errors.Is(err, link.ErrLost) {
				t.Errorf("got %v, expected the loss of the lane", err)
			}
			wantDone(t, lane)
		})
	}
}

func TestLaneWhosePeerHasReadAnotherNumberOfBytesIsNotUsedAgain(t *testing.T) {
	for _, read := range []byte{0, 2, 255} {
		peer, p, _ := rawPeer(t)
		st := p.called(t)
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		say(t, peer, laneEnd(read))
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, expected the end", err)
		}
		if _, err := p.client.Open(t.Context()); !errors.Is(err, link.ErrStreamLimit) {
			t.Errorf("%d read of 1: got %v, expected no free lane", read, err)
		}
	}
}

func TestHalfAChunkHoldsUpNeitherCloseNorWhatCameBefore(t *testing.T) {
	for name, room := range map[string]int{"Read takes all there is": 100, "Close looks for the end": len("answer")} {
		t.Run(name, func(t *testing.T) {
			peer, p, _ := rawPeer(t)
			st := p.called(t)
			say(t, peer, link.AppendData(nil, []byte("answer")))
			say(t, peer, []byte{2, 0})
			time.Sleep(50 * time.Millisecond) // so that both have arrived
			done := make(chan struct{})
			go func() {
				defer close(done)
				b := make([]byte, room)
				if n, err := st.Read(b); err != nil || string(b[:n]) != "answer" {
					t.Errorf("read %q, %v", b[:n], err)
				}
				_ = st.Close()
			}()
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				st.Reset(1)
				t.Error("still waiting for the rest of a chunk")
				<-done
			}
		})
	}
}

func TestLanesAreBounded(t *testing.T) {
	p := newPair(t, false, lanelink.Config{MaxLanes: 5}, lanelink.Config{})
	var wg sync.WaitGroup
	var admitted atomic.Int32
	for range 12 {
		c, s, err := p.network.Connect()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wg.Go(func() {
			switch _, err := p.client.Add(c, true, link.Info{}, nil); {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, lanelink.ErrTooMany):
				t.Errorf("got %v, expected ErrTooMany", err)
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 5 {
		t.Errorf("%d lanes were admitted, expected 5", n)
	}
}

func TestRoundTripIsOneOfTheLanesThatThereAre(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not say")
	}
	p := newPair(t, false, lanelink.Config{}, lanelink.Config{})
	lane, _, err := p.add(true)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.client.Stats(); s.RTT == 0 {
		t.Errorf("%+v; expected a round trip", s)
	}
	lane.Close(nil)
	if s := p.client.Stats(); s.RTT != 0 || s.SentBytes == 0 {
		t.Errorf("%+v without a lane; expected what was sent, and no round trip", s)
	}
}

func TestEndThatWaitsLeavesInOnePieceWithTheNextStream(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not say")
	}
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(near); err != nil {
		t.Fatal(err)
	}
	if err := near.(link.Finisher).CloseSoon(); err != nil {
		t.Fatal(err)
	}
	before := p.client.Stats().SentPackets
	next := p.called(t)
	if _, err := io.ReadAll(far); err != nil {
		t.Errorf("got %v, expected the end", err)
	}
	if n := p.client.Stats().SentPackets - before; n != 1 {
		t.Errorf("%d packets, expected the end and the next stream's bytes in one", n)
	}
	next.Reset(1)
}
