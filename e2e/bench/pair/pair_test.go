//go:build linux

package pair

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a pair in front of a backend until the test ends, and returns the entry's address. The exit trusts the CA
// named.
func start(t *testing.T, backend, trusted string) string {
	t.Helper()
	dir := t.TempDir()
	near, far := certstest.NewCA(t, "near.example"), certstest.NewCA(t, "far.example")
	certstest.WriteBundle(t, dir, "near", near)
	certstest.WriteBundle(t, dir, "far", far)
	certstest.WriteCertificate(t, dir, "entry", near.Issue(t, "spiffe://near.example/entry"))
	certstest.WriteCertificate(t, dir, "exit", far.Issue(t, "spiffe://far.example/exit", certstest.DNS("exit")))
	entry, exit := free(t), free(t)
	run(t, Exit, exit, Config{Ways: []Way{{exit, backend}}, Cert: filepath.Join(dir, "exit.crt"),
		Key: filepath.Join(dir, "exit.key"), CA: filepath.Join(dir, trusted)})
	run(t, Entry, entry, Config{Ways: []Way{{entry, exit}}, Cert: filepath.Join(dir, "entry.crt"),
		Key: filepath.Join(dir, "entry.key"), CA: filepath.Join(dir, "far.pem"), Name: "exit"})
	return entry
}

func run(t *testing.T, half func(context.Context, Config) error, address string, c Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- half(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// free returns an address that nothing listens on.
func free(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	_ = ln.Close()
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

// backend answers each connection with f until the test ends.
func backend(t *testing.T, f func(*net.TCPConn)) string {
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
				f(conn.(*net.TCPConn))
			}()
		}
	}()
	return ln.Addr().String()
}

func dialed(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func TestAHalfCloseArrivesAndTheOtherHalfGoesOn(t *testing.T) {
	conn := dialed(t, start(t, backend(t, func(c *net.TCPConn) {
		b, err := io.ReadAll(c) // needs the end
		if err == nil {
			_, _ = c.Write(append(b, " and goodbye"...))
		}
	}), "near.pem"))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello and goodbye" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestABackendsEndComesFirst(t *testing.T) {
	got := make(chan string, 1)
	conn := dialed(t, start(t, backend(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}), "near.pem"))
	if b, err := io.ReadAll(conn); err != nil || len(b) != 0 {
		t.Fatalf("%q, %v", b, err)
	}
	_, _ = io.WriteString(conn, "still here")
	_ = conn.CloseWrite()
	if b := <-got; b != "still here" {
		t.Errorf("the backend got %q", b)
	}
}

func TestACutIsNoEnd(t *testing.T) {
	conn := dialed(t, start(t, backend(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	}), "near.pem"))
	_, _ = io.WriteString(conn, "x")
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %v", err)
	}
}

func TestAStrangerDoesNotReachTheBackend(t *testing.T) {
	reached := make(chan struct{}, 1)
	conn := dialed(t, start(t, backend(t, func(*net.TCPConn) { reached <- struct{}{} }), "far.pem"))
	_, _ = io.WriteString(conn, "x")
	_, _ = io.ReadAll(conn) // an end or a reset
	select {
	case <-reached:
		t.Error("an entry whose certificate the exit does not trust reached the backend")
	default:
	}
}
