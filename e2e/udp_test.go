//go:build linux

package e2e

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// startUDPEcho answers each datagram with itself and its sender's port.
func startUDPEcho(t *testing.T) (address string, senders func() int) {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[uint16]bool{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65_507)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			mu.Lock()
			seen[from.Port()] = true
			mu.Unlock()
			if _, err := pc.WriteToUDPAddrPort(buf[:n], from); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { _ = pc.Close(); <-done })
	return pc.LocalAddr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
}

func TestDatagramsCrossInFlowsOfTheirOwn(t *testing.T) {
	echo, senders := startUDPEcho(t)
	s := startSite(t, options{relay: "audit: {file: relay.jsonl}"}, tunnel{name: "dns", protocol: "udp", backend: "udp://" + echo})
	address := s.connect(t, nil, "dns", "--udp")
	var clients sync.WaitGroup
	for c := range 5 {
		clients.Go(func() {
			conn, err := net.Dial("udp4", address.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			buf := make([]byte, 65_507)
			for i, size := range []int{1, 0, 512, 1472, 9000, 60_000} {
				want := bytes.Repeat([]byte{byte(c*10 + i)}, size)
				got := -1
				for range 10 { // they are datagrams
					if _, err := conn.Write(want); err != nil {
						t.Error(err)
						return
					}
					if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
						t.Error(err)
						return
					}
					if got, err = conn.Read(buf); err == nil {
						break
					}
				}
				if err != nil || !bytes.Equal(buf[:got], want) {
					t.Errorf("client %d: %d bytes came back as %d, %v", c, size, got, err)
				}
			}
		})
	}
	clients.Wait()
	if n := senders(); n != 5 {
		t.Errorf("the backend has seen %d senders", n)
	}
	// The same tunnel is no one's but UDP's.
	if a := s.caller(t, nil, billingID, h1).must(t, 405, call{tunnel: "dns", path: "/"}); a.code() != "method_not_allowed" {
		t.Errorf("got %s", a.body)
	}
}
