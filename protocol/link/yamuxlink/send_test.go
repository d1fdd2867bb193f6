package yamuxlink

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// mute is a socket whose peer takes nothing, until it is closed.
type mute struct {
	net.Conn
	closed chan struct{}
}

func (m mute) Write([]byte) (int, error)        { <-m.closed; return 0, net.ErrClosed }
func (m mute) SetWriteDeadline(time.Time) error { return nil }
func (m mute) Close() error                     { close(m.closed); return nil }

// A peer that reads nothing, but has yamux answer, must not fill our memory with the answers.
func TestYamuxFramesWaitWhereThePeerReadsNothing(t *testing.T) {
	m := mute{closed: make(chan struct{})}
	c := newFrameConn(m, false, func(error) {})
	flushed, refused := make(chan struct{}), make(chan int)
	go func() { c.flush(); close(flushed) }()
	go func() {
		n := 0
		for {
			k, err := c.Write([]byte{0, frameUpdate, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0})
			if n += k; err != nil {
				refused <- n
				return
			}
			if n > 2*maxOut {
				t.Error("nothing waits")
				refused <- n
				return
			}
		}
	}()
	waits := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.out != nil && len(c.out.b) > maxOut
	}
	for deadline := time.Now().Add(time.Minute); !waits() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	_ = c.Close()
	if n := <-refused; n < maxOut || n > 2*maxOut {
		t.Errorf("%d bytes were taken", n)
	}
	<-flushed
}

// A Write or an end that lost the race against a reset must not follow it.
func TestNothingFollowsAReset(t *testing.T) {
	c := newFrameConn(mute{}, false, func(error) {}) // and nobody flushes
	s := &carrier{id: 3}
	if n := c.writeData(s, []byte("before"), nil, nil); n != 6 {
		t.Fatalf("%d bytes were queued, expected 6", n)
	}
	reset := link.AppendReset(nil, 29)
	c.writeControl(s, reset, false, true)
	if n := c.writeData(s, []byte("behind"), nil, nil); n != 0 {
		t.Errorf("%d bytes were queued behind the reset", n)
	}
	c.writeControl(s, link.AppendEnd(nil), false, false)
	if !bytes.HasSuffix(c.out.b, reset) {
		t.Errorf("queued: % x, expected the reset last", c.out.b)
	}
}
