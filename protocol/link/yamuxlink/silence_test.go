package yamuxlink_test

import (
	"net"
	"sync"
	"testing"
)

// silence is a forwarder between two sockets that can stop forwarding without closing either.
type silence struct {
	mu     sync.Mutex
	silent bool
	ended  chan struct{}
}

// through starts the forwarder in front of target and returns its address.
func (s *silence) through(t testing.TB, target string) string {
	t.Helper()
	s.ended = make(chan struct{})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		far, err := new(net.Dialer).DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Error(err)
			_ = near.Close()
			return
		}
		wg.Go(func() { s.forward(far, near) })
		wg.Go(func() { s.forward(near, far) })
		wg.Go(func() {
			<-s.ended
			_ = near.Close()
			_ = far.Close()
		})
	})
	t.Cleanup(func() {
		_ = ln.Close()
		close(s.ended)
		wg.Wait()
	})
	return ln.Addr().String()
}

func (s *silence) forward(dst, src net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		s.mu.Lock()
		if s.silent { // the network took it; the far socket stays open and hears nothing
			s.mu.Unlock()
			return
		}
		if n > 0 {
			_, _ = dst.Write(b[:n])
		}
		s.mu.Unlock()
		if err != nil {
			_ = dst.Close()
			return
		}
	}
}

// begin makes the network swallow everything; when it has returned nothing arrives any more.
func (s *silence) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}
