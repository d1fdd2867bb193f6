package quiclink_test

import (
	"net"
	"sync"
	"testing"
)

// silence is a forwarder of datagrams that can stop forwarding.
type silence struct {
	mu     sync.Mutex
	silent bool
	back   net.Addr // where the client sends from
}

// through starts the forwarder in front of target and returns its address.
func (s *silence) through(t testing.TB, target string) string {
	t.Helper()
	near, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far, err := new(net.Dialer).DialContext(t.Context(), "udp4", target)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.outward(near, far) })
	wg.Go(func() { s.homeward(near, far) })
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
		wg.Wait()
	})
	return near.LocalAddr().String()
}

func (s *silence) outward(near net.PacketConn, far net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := near.ReadFrom(b)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.back = from
		if !s.silent {
			_, _ = far.Write(b[:n]) // a datagram may be lost
		}
		s.mu.Unlock()
	}
}

func (s *silence) homeward(near net.PacketConn, far net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := far.Read(b)
		if err != nil {
			return
		}
		s.mu.Lock()
		if !s.silent && s.back != nil {
			_, _ = near.WriteTo(b[:n], s.back) // a datagram may be lost
		}
		s.mu.Unlock()
	}
}

// begin makes the network swallow everything.
func (s *silence) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}
