package lanelink_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

// withLanes makes a pair on whose n lanes the client may open streams.
func withLanes(t *testing.T, n int, client, server lanelink.Config) *pair {
	t.Helper()
	p := newPair(t, false, client, server)
	for range n {
		if _, _, err := p.add(true); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// joined returns both ends of a stream that has carried one byte.
func (p *pair) joined(t *testing.T) (near, far link.Stream) {
	t.Helper()
	near, err := p.client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if far, err = p.server.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after 30 s", what)
		}
	}
}

// end ends both directions and reads to both ends.
func end(t *testing.T, near, far link.Stream) {
	t.Helper()
	if err := errors.Join(near.CloseWrite(), far.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	for _, st := range []link.Stream{near, far} {
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{st}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLaneIsUsedAgainWhenBothSidesHaveEnded(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	for range 50 {
		eventually(t, "the lane is free", func() bool { return p.client.Free() == 1 })
		near, far := p.joined(t)
		if _, err := p.client.Open(t.Context()); !errors.Is(err, link.ErrStreamLimit) {
			t.Fatalf("a second stream on one lane: %v, expected ErrStreamLimit", err)
		}
		end(t, near, far)
	}
	if all, _ := p.server.Lanes(); all != 1 {
		t.Errorf("%d lanes, expected the one there was", all)
	}
}

func TestNothingOfOneStreamIsSeenByTheNext(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	_ = near.SetDeadline(time.Now().Add(time.Hour))
	_ = far.SetDeadline(time.Now().Add(time.Hour))
	end(t, near, far)
	eventually(t, "the lane is free", func() bool { return p.client.Free() == 1 })
	next, nextFar := p.joined(t)

	_ = near.SetDeadline(time.Unix(1, 0)) // the old stream's owner still holds it
	_ = far.SetDeadline(time.Unix(1, 0))
	if _, err := near.Write([]byte("late")); err == nil {
		t.Error("the old stream still writes")
	}
	if n, err := near.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the old stream reads %d, %v; expected its end", n, err)
	}
	near.Reset(5)
	_ = errors.Join(near.Close(), far.Close(), near.CloseWrite())

	if _, err := next.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(nextFar, b); err != nil || string(b) != "new" {
		t.Errorf("read %q, %v", b, err)
	}
	end(t, next, nextFar)
}

func TestResetTakesTheLaneAlong(t *testing.T) {
	p := withLanes(t, 2, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	near.Reset(7)
	_, err := far.Read(make([]byte, 1))
	if reset, ok := errors.AsType[*link.ResetError](err); !ok || reset.Code != 7 {
		t.Errorf("got %v, expected the reset", err)
	}
	eventually(t, "one lane is left", func() bool {
		a, _ := p.client.Lanes()
		b, _ := p.server.Lanes()
		return a == 1 && b == 1
	})
}

func TestTailThatThePeerHasNotReadIsNotInTheNextStreamsWay(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	tail := bytes.Repeat([]byte("tail"), 5000)
	if _, err := near.Write(tail); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(far.CloseWrite(), near.CloseWrite()); err != nil { // the peer has ended and not read
		t.Fatal(err)
	}
	if _, err := io.ReadAll(near); err != nil {
		t.Fatal(err)
	}
	if _, err := p.client.Open(t.Context()); !errors.Is(err, link.ErrStreamLimit) {
		t.Errorf("got %v, expected no free lane while the tail is unread", err)
	}
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, tail) {
		t.Errorf("%d bytes, %v; expected the whole tail and its end", len(got), err)
	}
	eventually(t, "the lane has ended", func() bool { all, _ := p.client.Lanes(); return all == 0 })
}

func TestLanesBeyondTheFloorAreRetiredWhenIdle(t *testing.T) {
	cfg := lanelink.Config{Floor: 2, IdleAfter: 50 * time.Millisecond}
	p := withLanes(t, 6, cfg, cfg)
	near, far := p.joined(t) // a busy one is nobody's idle one
	eventually(t, "the floor and the busy one are left", func() bool { all, busy := p.client.Lanes(); return all == 3 && busy == 1 })
	eventually(t, "the peer knows", func() bool { all, _ := p.server.Lanes(); return all == 3 })
	end(t, near, far)
}

func TestDrainEndsFreeLanesAtOnceAndBusyOnesWithTheirStream(t *testing.T) {
	p := withLanes(t, 3, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	p.server.Drain(25)
	eventually(t, "the busy lane is left", func() bool { all, _ := p.server.Lanes(); return all == 1 })
	if st, err := p.client.Open(t.Context()); err == nil {
		_, err = st.Read(make([]byte, 1))
		if reset, ok := errors.AsType[*link.ResetError](err); !ok || reset.Code != 25 {
			t.Errorf("a stream after the drain: %v, expected a reset with its code", err)
		}
	} else if !errors.Is(err, link.ErrStreamLimit) {
		t.Errorf("got %v, expected ErrStreamLimit", err)
	}
	if _, err := near.Write([]byte("still served")); err != nil {
		t.Fatal(err)
	}
	end(t, near, far)
	eventually(t, "no lane is left", func() bool { all, _ := p.server.Lanes(); return all == 0 })
}

func TestStreamBegunDuringADrainIsResetBeforeAnybodySeesIt(t *testing.T) {
	for range 50 {
		p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
		go p.server.Drain(25)
		st, err := p.client.Open(t.Context())
		if err != nil {
			continue
		}
		_, _ = st.Write([]byte{1})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		far, err := p.server.Accept(ctx)
		cancel()
		if err == nil { // it came before the drain, and is served
			end(t, st, far)
			continue
		}
		_, err = st.Read(make([]byte, 1))
		if reset, ok := errors.AsType[*link.ResetError](err); !ok || reset.Code != 25 {
			t.Fatalf("got %v, expected a reset with the drain's code", err)
		}
	}
}

// A peer that gives up while nobody here reads or writes, because the backend is slow, must not be kept for ever.
func TestResetIsNoticedByNobodyWhoReads(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	if _, err := near.Write(make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	near.Reset(9)
	eventually(t, "the stream has ended", func() bool { return p.server.Streams() == 0 })
	_, err := far.Write([]byte{1})
	if reset, ok := errors.AsType[*link.ResetError](err); !ok || reset.Code != 9 {
		t.Errorf("got %v, expected the reset", err)
	}
}

func TestDoubtEndsLanesThatAreIdle(t *testing.T) {
	p := withLanes(t, 3, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	p.client.Doubt(errors.New("another connection died"))
	if all, busy := p.client.Lanes(); all != 1 || busy != 1 {
		t.Errorf("%d lanes, %d busy; expected the busy one, whose peer acknowledges", all, busy)
	}
	end(t, near, far)
}

func TestSessionThatNoLaneIsLeftOfEnds(t *testing.T) {
	cfg := lanelink.Config{DeadAfter: 50 * time.Millisecond}
	p := withLanes(t, 1, cfg, cfg)
	p.client.Close(errors.New("bye"))
	select {
	case <-p.server.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the session outlives its lanes")
	}
	if err := p.server.Err(); !errors.Is(err, link.ErrLost) {
		t.Errorf("%v", err)
	}
}

func TestPeerThatBreaksTheRulesLosesItsLaneAlone(t *testing.T) {
	for name, chunk := range map[string][]byte{
		"unknown type":        {9, 0, 0, 0},
		"empty data":          {1, 0, 0, 0},
		"data beyond 64 KiB":  {1, 1, 0, 1},
		"credit":              {4, 0, 0, 4, 0, 0, 0, 1},
		"an end without size": {2, 0, 0, 0},
		"no stream's reset":   {3, 0, 0, 2, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
			c, s, err := p.network.Connect()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			bad, err := p.server.Add(s, false, link.Info{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(chunk); err != nil {
				t.Fatal(err)
			}
			select {
			case <-bad.Done():
			case <-time.After(30 * time.Second):
				t.Fatal("the lane still stands")
			}
			near, far := p.joined(t)
			end(t, near, far)
		})
	}
}

func TestLaneNeedsASocketBelowTLS(t *testing.T) {
	p := newPair(t, false, lanelink.Config{}, lanelink.Config{})
	c, s, err := p.network.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := p.client.Add(c.NetConn().(*socket.Conn).Unwrap(), true, link.Info{}, nil); err == nil {
		t.Error("a bare connection was taken for a lane")
	}
}

func TestLastBytesAndTheEndArriveTogether(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	for _, size := range []int{0, 1, 1000, 200_000} {
		eventually(t, "the lane is free", func() bool { return p.client.Free() == 1 })
		near, far := p.joined(t)
		data := bytes.Repeat([]byte{7}, size)
		sent := make(chan error, 1)
		go func() {
			n, err := link.Finish(far, data)
			if err == nil && n != size {
				err = io.ErrShortWrite
			}
			sent <- err
		}()
		got, err := io.ReadAll(near)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v; expected %d and the end", len(got), err, size)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write([]byte{1}); err == nil {
			t.Error("a Write after Finish was taken")
		}
		end(t, near, far)
	}
	near, far := p.joined(t)
	if near.(link.Finisher).Ended() {
		t.Error("an end was seen that nobody said")
	}
	if _, err := link.Finish(far, []byte("all")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if n, err := near.Read(make([]byte, 10)); n != 3 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if !near.(link.Finisher).Ended() {
		t.Error("the end came with the last bytes and was not seen")
	}
	end(t, near, far)
}

func TestLaneServesItsStreamsByItself(t *testing.T) {
	served := make(chan struct{}, 10)
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{Serve: func(st link.Stream) {
		defer st.Close()
		if _, err := io.Copy(st, st); err == nil {
			_ = st.CloseWrite()
		}
		served <- struct{}{}
	}})
	for range 3 {
		eventually(t, "the lane is free", func() bool { return p.client.Free() == 1 })
		st, err := p.client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := link.Finish(st, []byte("echo")); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(st); err != nil || string(got) != "echo" {
			t.Fatalf("%q, %v", got, err)
		}
		<-served
	}
}

func TestEndThatMayWaitIsThereWithTheNextStreamOrASecondLater(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	for _, next := range []bool{true, true, false} {
		near, far := p.joined(t)
		if _, err := link.Finish(far, []byte("answer")); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(near); err != nil || string(got) != "answer" {
			t.Fatalf("%q, %v", got, err)
		}
		if err := near.(link.Finisher).CloseSoon(); err != nil {
			t.Fatal(err)
		}
		if p.client.Free() != 1 || p.client.Streams() != 0 {
			t.Fatalf("%d lanes free, %d streams; expected the lane to be free at once", p.client.Free(), p.client.Streams())
		}
		ended := make(chan error, 1)
		go func() { _, err := far.Read(make([]byte, 1)); _ = far.Close(); ended <- err }()
		if next {
			after, afterFar := p.joined(t)
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Errorf("got %v, expected the end in front of the next stream", err)
			}
			end(t, after, afterFar)
			eventually(t, "the lane is free", func() bool { return p.client.Free() == 1 })
			continue
		}
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				t.Errorf("got %v, expected the end", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the end never came")
		}
	}
}

func TestEndThatThePeerWaitsForDoesNotWait(t *testing.T) {
	p := withLanes(t, 1, lanelink.Config{}, lanelink.Config{})
	near, far := p.joined(t)
	if err := near.(link.Finisher).CloseSoon(); err != nil { // the peer has not ended
		t.Fatal(err)
	}
	_ = far.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // sooner than lanes are looked after
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, expected the end at once", err)
	}
	end(t, near, far)
}
