//go:build linux

package lab

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// moment bounds waits for what must come; brief bounds waits for what must not.
const (
	moment = 20 * time.Second
	brief  = 700 * time.Millisecond
)

// echoTCP answers on the host with what it hears, and returns its address.
func echoTCP(t *testing.T, on *Host) string {
	t.Helper()
	l, err := on.Listen(t.Context(), "tcp", netip.AddrPortFrom(on.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // ends with the connection, however that ends
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return l.Addr().String()
}

// echoUDP answers on the host with what it hears, and returns its address.
func echoUDP(t *testing.T, on *Host) string {
	t.Helper()
	c, err := on.ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(on.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := c.WriteTo(buf[:n], from); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	t.Cleanup(func() {
		c.Close()
		serving.Wait()
	})
	return c.LocalAddr().String()
}

func dial(t *testing.T, from *Host, network, address string) net.Conn {
	t.Helper()
	conn, err := from.DialContext(t.Context(), network, address)
	if err != nil {
		t.Fatalf("dialing %s from %s: %v", address, from.Name(), err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// exchange sends a word and waits at most wait for it to come back.
func exchange(conn net.Conn, wait time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("ahoy")); err != nil {
		return err
	}
	var answer [4]byte
	_, err := io.ReadFull(conn, answer[:])
	return err
}

// mustExchange is exchange for what must work.
func mustExchange(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := exchange(conn, moment); err != nil {
		t.Fatalf("no answer over %s: %v", conn.RemoteAddr().Network(), err)
	}
}
