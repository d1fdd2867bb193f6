//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/servers"
)

// TestConfiguredLimitsAreEnforced covers those of the file's limits that reach into a call; the others are the ports'.
func TestConfiguredLimitsAreEnforced(t *testing.T) { // W09
	hold := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hold" {
			_ = http.NewResponseController(w).Flush()
			<-hold
		}
	}))
	defer backend.Close()
	defer close(hold)
	s := newSite(t, options{}, tunnel{name: "go", backend: backend.URL})
	s.relay.add(t, `limits: {header_count: 12, header_field_bytes: 1KiB, min_body_rate: 1KiB, min_body_grace: 1s,
  exchange_idle_timeout: 3s, streams_per_session: 2}
`)
	s.start(t)
	c := s.caller(t, nil, billingID, h1)
	many, long := http.Header{}, http.Header{"X-Long": {strings.Repeat("x", 1100)}}
	for i := range 20 {
		many.Set(fmt.Sprintf("X-%d", i), "x")
	}
	for what, header := range map[string]http.Header{"header_count": many, "header_field_bytes": long} {
		if a := c.must(t, http.StatusRequestHeaderFieldsTooLarge, call{tunnel: "go", header: header}); a.code() != "headers_too_large" {
			t.Errorf("%s: refused as %q", what, a.code())
		}
	}
	head := "Host: go.dc1.example\r\nAuthorization: Bearer " + s.token(t, "go.use") + "\r\n"
	began := time.Now()
	if status := s.raw(t, "POST / HTTP/1.1\r\n"+head+"Content-Length: 100000\r\n\r\nx"); status != http.StatusRequestTimeout || time.Since(began) > 10*time.Second {
		t.Errorf("min_body_rate: answered %d after %s", status, time.Since(began))
	}
	began = time.Now()
	if status := s.raw(t, "POST / HTTP/1.1\r\n"+head+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"); status != http.StatusGatewayTimeout || time.Since(began) > 10*time.Second {
		t.Errorf("exchange_idle_timeout: answered %d after %s", status, time.Since(began))
	}
	// The agent has two links, of two calls each.
	refused := false
	for range 8 {
		response, err := c.Do(c.request(t.Context(), t, call{tunnel: "go", path: "/hold"}))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		refused = refused || response.StatusCode == http.StatusServiceUnavailable
	}
	if !refused {
		t.Error("streams_per_session: 8 calls run at once")
	}
}

// A backend's answer that comes behind another one is nobody's, and what it says is not for the log either.
func TestAnAnswerBehindAnotherReachesNoCallAndNoLog(t *testing.T) { // W06, O07
	listener, err := new(servers.Loopback).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const canary = "canary-of-another-call"
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { answerTwice(conn, canary) })
		}
	})
	s := startSite(t, options{}, tunnel{name: "go", backend: "http://" + listener.Addr().String()})
	s.secret(canary)
	c := s.caller(t, nil, billingID, h1)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 50 {
				if a, err := c.do(t, call{tunnel: "go", path: "/"}); err != nil || strings.Contains(a.body, canary) {
					t.Errorf("answered %q, %v", a.body, err)
				}
			}
		})
	}
	callers.Wait()
	s.agent.stop(t)
	s.relay.stop(t)
	listener.Close()
	serving.Wait()
}

func answerTwice(conn net.Conn, canary string) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nownHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(canary), canary)
	}
}
