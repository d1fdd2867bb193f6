package connect

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// relay is an HTTPS server that answers CONNECT: with 403 and a problem for any token but "good", with an upper-casing
// echo otherwise.
func relay(t *testing.T) (addr string, cfg *tls.Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "ledger.dc1.example:443" {
			t.Errorf("%s %s; expected CONNECT to the tunnel's host", r.Method, r.Host)
		}
		if r.Header.Get("Proxy-Authorization") != "Bearer good" {
			w.Header().Set("Fairlead-Call-Id", "call1")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"code":"scope_missing","detail":"wants orders.read"}`)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		// The first answer's bytes travel with the header: a client must not lose them in its reader.
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello ")
		all, _ := io.ReadAll(rw)
		_, _ = conn.Write(bytes.ToUpper(all))
		_ = conn.(*tls.Conn).CloseWrite()
	}))
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv.Listener.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "example.com"}
}

func serve(t *testing.T, cfg Config) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func exchange(t *testing.T, addr, send string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, send); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(conn)
	return string(all), err
}

func TestHalfCloseCrossesAndEarlyBytesAreKept(t *testing.T) {
	addr, cfg := relay(t)
	local := serve(t, Config{Relay: addr, TunnelHost: "ledger.dc1.example", TLS: cfg, Log: slog.New(slog.DiscardHandler),
		Token: func() (string, error) { return "good", nil }})
	if got, err := exchange(t, local, "abc"); err != nil || got != "hello ABC" {
		t.Errorf("%q, %v; expected %q", got, err, "hello ABC")
	}
}

func TestTheTokenIsReadAnewForEachConnectionAndNeverLogged(t *testing.T) {
	addr, cfg := relay(t)
	var mu sync.Mutex
	token := "stale-secret"
	var log lockedBuffer
	local := serve(t, Config{Relay: addr, TunnelHost: "ledger.dc1.example", TLS: cfg, Log: slog.New(slog.NewJSONHandler(&log, nil)),
		Token: func() (string, error) { mu.Lock(); defer mu.Unlock(); return token, nil }})
	if got, _ := exchange(t, local, "abc"); got != "" {
		t.Errorf("a refused connection carried %q", got)
	}
	mu.Lock()
	token = "good"
	mu.Unlock()
	if got, err := exchange(t, local, "abc"); err != nil || got != "hello ABC" {
		t.Errorf("%q, %v after the token changed", got, err)
	}
	text := log.String()
	if n := strings.Count(text, "\n"); n != 1 || !strings.Contains(text, `"code":"scope_missing"`) || !strings.Contains(text, `"call_id":"call1"`) {
		t.Errorf("%d lines; expected one with the code and the call id:\n%s", n, text)
	}
	if strings.Contains(text, "stale-secret") {
		t.Error("the token is in the log")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
