package yamuxlink_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// firstWindow is how much of a stream may leave before the peer has said anything, in chunks with their headers.
const firstWindow = 256<<10 - 64

// openFirst opens the session's first stream.
func openFirst(t *testing.T, peer *rawPeer, s link.Session) link.Stream {
	t.Helper()
	st := open(t, s)
	if f := peer.receive(); f.kind != typeUpdate || f.flags != flagSYN || f.stream != 1 {
		t.Fatalf("got %+v, expected stream 1", f)
	}
	return st
}

func open(t *testing.T, s link.Session) link.Stream {
	t.Helper()
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// stuff writes on one stream after the other, each within its window, until nothing is taken any more: the peer does
// not read, and its socket, ours and the gate are full. It returns the last stream and its number.
func stuff(t *testing.T, s link.Session) (link.Stream, uint32) {
	t.Helper()
	chunk := make([]byte, link.WriteSize)
	for id := uint32(3); ; id += 2 {
		st := open(t, s)
		for range firstWindow / (len(chunk) + link.ChunkHeaderSize) {
			_ = st.SetWriteDeadline(time.Now().Add(2 * time.Second))
			_, err := st.Write(chunk)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return st, id
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFirstStreamOvertakesBulk(t *testing.T) {
	peer, s := under(t, link.Config{})
	first := openFirst(t, peer, s)
	_, last := stuff(t, s)
	const waiting = 4
	for range waiting {
		st := open(t, s)
		go func() { _, _ = st.Write(make([]byte, link.WriteSize)) }() // waits at the gate; what is missing is missed below
	}
	_ = first.SetWriteDeadline(time.Now().Add(patience))
	if _, err := first.Write([]byte("ping")); err != nil { // the peer reads nothing: it is taken all the same
		t.Fatal(err)
	}
	// What the kernel and the goroutine that writes hold already is beyond us; all that waits must come later.
	behind := 0
	for seen := false; behind < waiting; {
		f := peer.receive()
		switch {
		case f.kind != typeData:
		case f.stream == 1:
			seen = true
		case f.stream > last && !seen:
			t.Fatal("bulk that waited came before the ping")
		case f.stream > last:
			behind++
		}
	}
}

func TestResetDropsWhatIsQueued(t *testing.T) {
	peer, s := under(t, link.Config{})
	openFirst(t, peer, s)
	last, id := stuff(t, s)
	_ = last.SetWriteDeadline(time.Time{})
	written := make(chan error, 1)
	go func() {
		_, err := last.Write(make([]byte, link.WriteSize))
		written <- err
	}()
	time.Sleep(50 * time.Millisecond) // so that it waits at the gate, most likely
	last.Reset(29)
	if err := <-written; err == nil {
		t.Error("a Write was taken although nothing is")
	}
	go func() {
		if marker, err := s.Open(t.Context()); err == nil {
			_, _ = marker.Write([]byte("marker"))
		}
	}()
	for reset := false; ; {
		f := peer.receive()
		switch {
		case f.kind != typeData:
		case f.stream == id && f.body[0] == byte(link.ChunkReset):
			reset = true
		case f.stream == id && reset:
			t.Fatal("data followed the reset")
		case len(f.body) < 100:
			if !reset {
				t.Error("the peer was not told of the reset")
			}
			return
		}
	}
}

// yamux's first window is as large as ours: however the data is cut into chunks, a stream whose peer says nothing must
// not hold up the goroutine that writes for all.
func TestStreamInSmallPiecesStallsNoOtherBeforeThePeerAnswers(t *testing.T) {
	peer, s := under(t, link.Config{})
	openFirst(t, peer, s)
	small := open(t, s)
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := small.Write([]byte("abc")); err != nil { // the end of the link, after the test
				done <- err
				return
			}
		}
	}()
	// The peer reads, and answers nothing: yamux never gets its larger window.
	for got := 0; got <= firstWindow-(3+link.ChunkHeaderSize); {
		if f := peer.receive(); f.stream == 3 && f.kind == typeData {
			got += len(f.body)
		}
	}
	other := open(t, s)
	_ = other.SetWriteDeadline(time.Now().Add(patience))
	if _, err := other.Write([]byte("not held up")); err != nil {
		t.Fatal(err)
	}
	for {
		if f := peer.receive(); f.stream == 5 && f.kind == typeData {
			break
		}
	}
	s.Close(nil)
	<-done
}
