//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs the package's backend until the test ends.
func serve(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// fake is a backend of the test's own: each connection is answered by f, after the byte that says what for.
func fake(t *testing.T, f func(*net.TCPConn)) string {
	t.Helper()
	ln := listen(t)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.ReadFull(conn, make([]byte, 1))
				f(conn.(*net.TCPConn))
			}()
		}
	}()
	return ln.Addr().String()
}

func measured(t *testing.T, s Spec) (r Result, err error) {
	t.Helper()
	reported := false
	err = Run(t.Context(), s, func(got Result) { r, reported = got, true })
	if err == nil && !reported {
		t.Error("nothing was reported")
	}
	return r, err
}

func TestEveryKindOfLoadEndsWell(t *testing.T) {
	address := []string{serve(t)}
	for _, s := range []Spec{
		{Kind: Bulk, Streams: 3}, {Kind: Bulk, Streams: 3, Up: true}, {Kind: Bulk, Streams: 2, Aborted: 50 * time.Millisecond},
		{Kind: RR, Streams: 4}, {Kind: RR, Streams: 1, Behind: "up"}, {Kind: RR, Streams: 1, Behind: "down"}, {Kind: RR, Streams: 2, Behind: "up", Prepare: time.Millisecond}, {Kind: Conn, Streams: 4},
	} {
		s.Address, s.Warm, s.Window, s.Pids = address, 50*time.Millisecond, 100*time.Millisecond, []int{os.Getpid()}
		r, err := measured(t, s)
		if err != nil {
			t.Errorf("%+v: %v", s, err)
			continue
		}
		if (s.Behind != "") != (r.Beside > 0) {
			t.Errorf("%+v: %d bytes moved beside", s, r.Beside)
		}
		if r.Seconds < 0.1 || len(r.CPU) != 1 || (s.Kind == Bulk) != (r.Bytes > 0) || (s.Kind != Bulk) != (r.Calls > 0 && r.P99 >= r.P50 && r.P50 > 0) {
			t.Errorf("%+v: %+v", s, r)
		}
	}
}

func TestBytesAreCountedExactly(t *testing.T) {
	const each = 1<<20 + 17
	address := fake(t, func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, each))
		_, _ = io.Copy(io.Discard, c) // until the client ends its side
	})
	r, err := measured(t, Spec{Kind: Bulk, Address: []string{address}, Streams: 3, Window: 500 * time.Millisecond})
	if err != nil || r.Bytes != 3*each {
		t.Errorf("counted %d bytes of %d, %v", r.Bytes, 3*each, err)
	}
}

func TestCallsAreCountedExactly(t *testing.T) {
	var calls atomic.Int64
	address := fake(t, func(c *net.TCPConn) {
		message := make([]byte, messageSize)
		for {
			if _, err := io.ReadFull(c, message); err != nil {
				return
			}
			calls.Add(1)
			if _, err := c.Write(message); err != nil {
				return
			}
		}
	})
	const streams = 2
	r, err := measured(t, Spec{Kind: RR, Address: []string{address}, Streams: streams, Window: 100 * time.Millisecond})
	if all := calls.Load(); err != nil || r.Calls > all || r.Calls < all-2*streams { // one may be under way, one be done after the window
		t.Errorf("counted %d calls of %d, %v", r.Calls, all, err)
	}
}

func TestABackendThatMissesBytesIsNoticed(t *testing.T) {
	address := fake(t, func(c *net.TCPConn) {
		var n atomic.Int64
		_ = binary.Write(c, binary.BigEndian, int64(1))
		_ = drain(c, &n)
		_ = binary.Write(c, binary.BigEndian, n.Load()-1)
	})
	_, err := measured(t, Spec{Kind: Bulk, Up: true, Address: []string{address}, Streams: 1, Window: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "the backend got") {
		t.Errorf("got %v", err)
	}
}

func TestADownloadThatEndsByItselfIsNoticed(t *testing.T) {
	address := fake(t, func(c *net.TCPConn) { _, _ = c.Write(make([]byte, 1<<20)) })
	_, err := measured(t, Spec{Kind: Bulk, Address: []string{address}, Streams: 1, Window: time.Minute})
	if !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestAnIdleLoadHoldsItsStreams(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reported := make(chan Result, 1)
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Spec{Kind: Idle, Address: []string{serve(t)}, Streams: 20}, func(r Result) { reported <- r })
	}()
	select {
	case r := <-reported:
		if r.Calls != 20 {
			t.Errorf("%+v", r)
		}
	case err := <-done:
		t.Fatalf("ended with %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("ended with %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCPUAndMemoryOfAProcessAreRead(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		_ = before // burn
	}
	after, err := CPU(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("%v s before, %v s after, %v", before, after, err)
	}
	if held, err := RSS(os.Getpid()); err != nil || held < 1<<20 {
		t.Errorf("%d bytes, %v", held, err)
	}
}
