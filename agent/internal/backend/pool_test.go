//go:build unix

package backend

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// answering is a backend that answers each request with what say returns, and counts its connections; "" hangs up.
func answering(t *testing.T, conns *atomic.Int32, say func(header string) string) string {
	return "http://" + listen(t, func(c net.Conn) {
		conns.Add(1)
		for br := bufio.NewReader(c); ; {
			h := readHeader(br)
			if !strings.HasSuffix(h, "\r\n\r\n") {
				return
			}
			text := say(h)
			if _, err := io.WriteString(c, text); err != nil || text == "" {
				return
			}
		}
	})
}

func TestAConnectionIsKeptOnlyBehindAWholeExchange(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		conns  int32
	}{
		"length":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 1},
		"chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1},
		"empty":   {"HTTP/1.1 204 No Content\r\n\r\n", 1},
		"closing": {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 3},
		"old":     {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 3},
		"glued":   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhix", 3}, // W06
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			b := to(t, Config{}, answering(t, &conns, func(string) string { return c.answer }))
			for range 3 {
				if err := roundTrip(t, b, request(t, "GET", nil)); err != nil {
					t.Fatal(err)
				}
			}
			if n := conns.Load(); n != c.conns {
				t.Errorf("%d connections for 3 requests, expected %d", n, c.conns)
			}
		})
	}
}

func TestAResponseThatIsNotReadToItsEndCostsItsConnection(t *testing.T) {
	var conns atomic.Int32
	b := to(t, Config{}, answering(t, &conns, func(string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" }))
	for range 2 {
		resp, err := b.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("reading a closed body: got %v", err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections, expected 2", n)
	}
}

// What comes on an idle connection is nobody's answer, and a backend that has hung up has not seen the next request.
func TestAnIdleConnectionIsLookedAtBeforeItIsUsed(t *testing.T) { // W06
	for name, unasked := range map[string]string{"hung up": "", "spoke": "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother"} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			done := make(chan struct{}, 1)
			b := to(t, Config{}, "http://"+listen(t, func(c net.Conn) {
				first := conns.Add(1) == 1
				if readHeader(bufio.NewReader(c)) == "" {
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")
				if first {
					time.Sleep(20 * time.Millisecond) // until the answer was read
					io.WriteString(c, unasked)
				}
				if unasked != "" {
					done <- struct{}{}
					io.Copy(io.Discard, c)
				}
			}))
			for i := range 2 {
				resp, err := b.RoundTrip(request(t, "POST", nil))
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || string(body) != "own" {
					t.Fatalf("request %d: got %q, %v", i, body, err)
				}
				if unasked != "" {
					<-done
				} else {
					time.Sleep(40 * time.Millisecond) // until the backend has hung up
				}
			}
			if n := conns.Load(); n != 2 {
				t.Errorf("%d connections, expected 2", n)
			}
		})
	}
}

func TestABackendsBodyIsHeldUntilItIsWanted(t *testing.T) {
	for name, c := range map[string]struct {
		first string
		read  bool
	}{
		"wanted": {"HTTP/1.1 100 Continue\r\n\r\n", true}, "refused": {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := to(t, Config{}, "http://"+listen(t, func(conn net.Conn) {
				br := bufio.NewReader(conn)
				readHeader(br)
				io.WriteString(conn, c.first)
				if _, err := io.ReadFull(br, make([]byte, 5)); err == nil {
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}))
			read := false
			req := request(t, "POST", &noted{strings.NewReader("order"), &read})
			req.ContentLength = 5
			req.Header.Set("Expect", "100-continue")
			if err := roundTrip(t, b, req); err != nil || read != c.read {
				t.Errorf("got %v, the body was read: %v", err, read)
			}
		})
	}
}

type noted struct {
	io.Reader
	read *bool
}

func (n *noted) Read(p []byte) (int, error) {
	*n.read = true
	return n.Reader.Read(p)
}

func TestACanceledRequestGivesItsConnectionUp(t *testing.T) {
	gone := make(chan struct{})
	b := to(t, Config{}, "http://"+listen(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		readHeader(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		io.Copy(io.Discard, br)
		close(gone)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := b.RoundTrip(request(t, "GET", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half a response came out whole: %q", b)
	}
	<-gone
}

func TestAHeaderBeyondItsBoundIsRefused(t *testing.T) { // W06
	var conns atomic.Int32
	b := to(t, Config{}, answering(t, &conns, func(string) string {
		return "HTTP/1.1 103 Early Hints\r\nX: " + strings.Repeat("x", maxResponseHeader) + "\r\n\r\n"
	}))
	failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendProtocol, true)
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	var conns atomic.Int32
	b := to(t, Config{}, answering(t, &conns, func(string) string { return "HTTP/1.1 204 No Content\r\n\r\n" }))
	if err := roundTrip(t, b, request(t, "GET", nil)); err != nil {
		t.Fatal(err)
	}
	p := b.pool
	p.expire() // too early
	if len(p.idle) != 1 || p.sweep == nil {
		t.Fatalf("%d connections are idle, expected 1, and a clock that runs", len(p.idle))
	}
	c := p.idle[0]
	c.used = c.used.Add(-idleTimeout)
	p.expire()
	if len(p.idle) != 0 || p.sweep != nil {
		t.Errorf("%d connections are idle after their time, and a clock runs: %v", len(p.idle), p.sweep != nil)
	}
	if _, err := c.Conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing on it: %v, expected it closed", err)
	}
}
