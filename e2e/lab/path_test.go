//go:build linux

package lab

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestDelayIsAddedEachWay(t *testing.T) {
	l := New(t, Options{Conditions: Conditions{Delay: 30 * time.Millisecond}})
	conn := dial(t, l.Host("dc"), "udp", echoUDP(t, l.Host("cloud")))
	best := func() time.Duration {
		best := time.Hour
		for range 10 {
			began := time.Now()
			mustExchange(t, conn)
			best = min(best, time.Since(began))
		}
		return best
	}
	if got := best(); got < 60*time.Millisecond || got > 90*time.Millisecond {
		t.Errorf("round trip took %s with 30ms each way", got)
	}
	l.Path().SetDirection(Out, Conditions{})
	if got := best(); got < 30*time.Millisecond || got > 60*time.Millisecond {
		t.Errorf("round trip took %s with 30ms one way", got)
	}
}

func TestLossIsCountedAndNothingElseIsLost(t *testing.T) {
	l := New(t, Options{Seed: 3})
	conn := dial(t, l.Host("dc"), "udp", echoUDP(t, l.Host("cloud")))
	mustExchange(t, conn)
	l.Path().SetDirection(Out, Conditions{Loss: 0.1})
	before := l.Path().Stats(Out)
	const sent = 500
	answered := 0
	for range sent {
		// One at a time: an answer comes, or the loss is counted. No queue can overflow meanwhile.
		lostBefore := l.Path().Stats(Out).Lost
		if _, err := conn.Write([]byte("ahoy")); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(moment); ; {
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 4)); err == nil {
				answered++
				break
			}
			if l.Path().Stats(Out).Lost > lostBefore {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("a packet was neither answered nor counted as lost")
			}
		}
	}
	lost := l.Path().Stats(Out).Lost - before.Lost
	if lost < 25 || lost > 85 {
		t.Errorf("lost %d of %d packets at 10 %%", lost, sent)
	}
	if answered+int(lost) != sent {
		t.Errorf("%d answers and %d losses for %d packets", answered, lost, sent)
	}
}

func TestRateBoundsThroughput(t *testing.T) {
	l := New(t, Options{Conditions: Conditions{Rate: 20_000_000}})
	conn := dial(t, l.Host("dc"), "tcp", echoTCP(t, l.Host("cloud")))
	const size = 1 << 20 // takes 0.42 s at 20 Mbit/s
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(make([]byte, size))
		sent <- err
	}()
	if err := conn.SetReadDeadline(time.Now().Add(moment)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, conn, size); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if took < 400*time.Millisecond {
		t.Errorf("1 MiB took %s over 20 Mbit/s", took)
	}
	if s := l.Path().Stats(Out); s.Bytes < size {
		t.Errorf("the path counted %d bytes, of at least %d", s.Bytes, size)
	}
}

func TestSilentCutLeavesConnectionsHalfOpen(t *testing.T) {
	for name, kind := range map[string]Kind{"wan": WAN, "fast": Fast} {
		t.Run(name, func(t *testing.T) {
			l := New(t, Options{Path: kind})
			address := echoTCP(t, l.Host("cloud"))
			conn := dial(t, l.Host("dc"), "tcp", address)
			mustExchange(t, conn)
			l.Path().Cut(Silent)
			if err := exchange(conn, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("over a silent cut: got %v, want a time-out", err)
			}
			l.Path().Cut(Whole)
			// The lost word is sent again by TCP: the connection lives.
			if err := conn.SetDeadline(time.Now().Add(moment)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Errorf("after the cut: %v", err)
			}
			mustExchange(t, dial(t, l.Host("dc"), "tcp", address))
		})
	}
}

func TestCutOfOneDirectionStopsIt(t *testing.T) {
	l := New(t, Options{})
	conn := dial(t, l.Host("dc"), "udp", echoUDP(t, l.Host("cloud")))
	mustExchange(t, conn)
	l.Path().SetDirection(Into, Conditions{Cut: true})
	out := l.Path().Stats(Out)
	if err := exchange(conn, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over a cut: got %v, want a time-out", err)
	}
	if got := l.Path().Stats(Out).Passed - out.Passed; got != 1 {
		t.Errorf("%d packets went out, want 1", got)
	}
	if got := l.Path().Stats(Into).Cut; got != 1 {
		t.Errorf("%d packets were cut on the way in, want 1", got)
	}
}

func TestResetCutEndsConnectionsOnBothSides(t *testing.T) {
	l := New(t, Options{})
	address := echoTCP(t, l.Host("cloud"))
	conn := dial(t, l.Host("dc"), "tcp", address)
	mustExchange(t, conn)
	l.Path().Cut(Reset)
	if err := exchange(conn, moment); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("over a cut with resets: got %v, want %v", err, syscall.ECONNRESET)
	}
	if conn, err := l.Host("dc").DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		t.Errorf("dialing over a cut with resets: got %v, want %v", err, syscall.ECONNREFUSED)
	}
	l.Path().Cut(Whole)
	mustExchange(t, dial(t, l.Host("dc"), "tcp", address))
}
