package dispatch

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// serveUDP gives each datagram to f, whose answers go back to its sender.
func serveUDP(t *testing.T, f func(datagram []byte) [][]byte) config.Tunnel {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, protocol.MaxDatagram)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for _, answer := range f(buf[:n]) {
				if _, err := pc.WriteToUDPAddrPort(answer, from); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return tunnelTo(t, "udp://"+pc.LocalAddr().String())
}

func datagrams(t *testing.T, s link.Stream, all ...string) {
	t.Helper()
	for _, d := range all {
		b, err := protocol.AppendDatagram(nil, []byte(d))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

func openUDP(t *testing.T, r *relay) (link.Stream, *bufio.Reader) {
	t.Helper()
	s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.UDP, CallID: "c1", Grant: []byte("ada")}, "")
	if opened, err := protocol.ReadOpened(s); err != nil || opened.Code != protocol.OK {
		t.Fatalf("got %+v, %v", opened, err)
	}
	return s, bufio.NewReader(s)
}

func TestAUDPFlowKeepsItsDatagrams(t *testing.T) {
	r := newRelay(t, serveUDP(t, func(d []byte) [][]byte {
		return [][]byte{[]byte(strings.ToUpper(string(d))), {}} // and an empty one
	}))
	s, br := openUDP(t, r)
	sent := []string{"a", "", "bb", strings.Repeat("c", 60_000)}
	buf := make([]byte, protocol.MaxDatagram)
	for _, d := range sent {
		datagrams(t, s, d)
		for _, want := range []string{strings.ToUpper(d), ""} {
			if n, err := protocol.ReadDatagram(br, buf); err != nil || string(buf[:n]) != want {
				t.Fatalf("got %d bytes, %v, want %d", n, err, len(want))
			}
		}
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.ReadDatagram(br, buf); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	if rep := r.report(); rep.Code != protocol.OK || rep.In != 60_003 || rep.Out != 60_003 {
		t.Errorf("%+v", rep)
	}
}

func TestAUDPFlowOutlivesABackendThatIsNotThereYet(t *testing.T) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	address := pc.LocalAddr().(*net.UDPAddr)
	pc.Close()
	r := newRelay(t, tunnelTo(t, "udp://"+address.String()))
	s, br := openUDP(t, r)
	datagrams(t, s, "lost", "lost", "lost")
	time.Sleep(50 * time.Millisecond)
	if pc, err = net.ListenUDP("udp4", address); err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	datagrams(t, s, "heard")
	buf := make([]byte, 100)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "heard" {
			if _, err := pc.WriteToUDPAddrPort([]byte("yes"), from); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if n, err := protocol.ReadDatagram(br, buf); err != nil || string(buf[:n]) != "yes" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	_ = s.CloseWrite()
	r.report()
}

func TestAUDPFlowEndsWhenNothingMoves(t *testing.T) {
	tunnel := serveUDP(t, func(d []byte) [][]byte { return [][]byte{d} })
	tunnel.Timeouts.Idle = 200 * time.Millisecond
	r := newRelay(t, tunnel)
	s, br := openUDP(t, r)
	buf, began := make([]byte, 100), time.Now()
	for range 5 {
		time.Sleep(80 * time.Millisecond)
		datagrams(t, s, "x")
		if n, err := protocol.ReadDatagram(br, buf); err != nil || n != 1 {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	}
	if _, err := protocol.ReadDatagram(br, buf); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	_ = s.CloseWrite()
	if rep := r.report(); rep.Code != protocol.OK {
		t.Errorf("%+v", rep)
	}
}

func TestWhatIsNoCapsuleEndsTheFlow(t *testing.T) {
	r := newRelay(t, serveUDP(t, func(d []byte) [][]byte { t.Errorf("the backend got %q", d); return nil }))
	s, br := openUDP(t, r)
	if _, err := s.Write([]byte{0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := br.ReadByte(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want a reset", err)
	}
	if rep := r.report(); rep.Code != protocol.BadRequest {
		t.Errorf("%+v", rep)
	}
	if opened := func() *protocol.Opened {
		s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.TCP, Grant: []byte("ada")}, "")
		m, err := protocol.ReadOpened(s)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		r.report()
		return m
	}(); opened.Code != protocol.AgentDenied {
		t.Errorf("TCP to a udp backend: %+v", opened)
	}
}
