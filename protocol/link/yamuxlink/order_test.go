package yamuxlink_test

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// firstStream opens the session's first stream and returns it with the peer's sight of it.
func firstStream(t *testing.T, peer *rawPeer, s link.Session) link.Stream {
	t.Helper()
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f := peer.receive(); f.kind != typeUpdate || f.flags != flagSYN || f.stream != 1 {
		t.Fatalf("got %+v, expected stream 1", f)
	}
	return st
}

// stuff fills the way to the peer, which reads nothing, with the data of many streams.
func stuff(t *testing.T, s link.Session) []link.Stream {
	t.Helper()
	var streams []link.Stream
	for {
		st, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, st)
		if n := fill(t, st, link.WriteSize); n < 200<<10 { // less than its window: the socket is full
			return streams
		}
	}
}

func TestFirstStreamOvertakesBulk(t *testing.T) {
	peer, s := under(t, link.Config{})
	first := firstStream(t, peer, s)
	stuff(t, s)
	before := s.Streams()
	if _, err := first.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	// What the kernel, frameConn and yamux hold already is beyond us; what waits at the gate must come later. That is
	// four chunks, the one that is being written included.
	late, seen := 0, false
	for {
		f, err := peer.tryReceive(time.Second)
		if err != nil {
			break // all that the windows admitted has arrived
		}
		switch {
		case f.stream == 1 && f.kind == typeData:
			seen = true
		case seen && f.kind == typeData:
			late += len(f.body)
		}
	}
	if !seen || late < 2*link.WriteSize {
		t.Errorf("seen %t, with %d bytes of bulk behind it, of %d streams; expected those of the gate", seen, late, before)
	}
}

func TestResetDropsWhatIsQueued(t *testing.T) {
	peer, s := under(t, link.Config{})
	firstStream(t, peer, s)
	streams := stuff(t, s)
	last := streams[len(streams)-1]
	last.Reset(29)
	var reset bool
	for {
		f, err := peer.tryReceive(time.Second)
		if err != nil {
			break
		}
		if f.kind != typeData || f.stream != uint32(2*len(streams)+1) {
			continue
		}
		if f.body[0] == byte(link.ChunkReset) {
			reset = true
		} else if reset {
			t.Fatal("data followed the reset")
		}
	}
	if !reset {
		t.Error("the peer was not told of the reset")
	}
}

// yamux's first window is as large as ours: however the data is cut into chunks, a stream whose peer says nothing must
// not hold up the goroutine that writes for all.
func TestStreamInSmallPiecesStallsNoOtherBeforeThePeerAnswers(t *testing.T) {
	peer, s := under(t, link.Config{})
	firstStream(t, peer, s)
	small, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	go func() { // reads, and answers nothing: yamux never gets its larger window
		bytes := 0
		for {
			f, err := peer.tryReceive(5 * time.Second)
			if err != nil || f.stream == 5 && f.kind == typeData {
				got <- bytes
				return
			}
			if f.stream == 3 {
				bytes += len(f.body)
			}
		}
	}()
	fill(t, small, 3)
	_ = small.CloseWrite()
	other, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write([]byte("not held up")); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n < 200<<10 || n > 256<<10 {
		t.Errorf("%d bytes of chunks before the other stream's, expected nearly yamux's 256 KiB", n)
	}
}
