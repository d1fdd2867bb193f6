package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

// lines is a log that can be read while it is written.
type lines struct {
	written chan struct{} // one token a line

	mu sync.Mutex // guards:
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.written <- struct{}{} }()
	return l.b.Write(p)
}

func (l *lines) take(t *testing.T) map[string]any {
	t.Helper()
	<-l.written
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	var m map[string]any
	if err := json.Unmarshal(l.b.Bytes(), &m); err != nil {
		t.Fatalf("expected one line, got %v: %q", err, l.b.String())
	}
	return m
}

func TestEachCallIsLoggedOnce(t *testing.T) {
	log := &lines{written: make(chan struct{}, 16)}
	cfg := Config{Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	cfg.Tunnels = append(cfg.Tunnels, serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	r := newRelayWith(t, cfg)

	r.do(request(t, "GET", "/?token=canary", nil)).body(t)
	r.report()
	got := log.take(t)
	for key, want := range map[string]any{
		"level": "DEBUG", "msg": "call ended", "call_id": "c1", "tunnel": "orders", "network": "http", "code": "ok",
		"transport": "memory", "status": 200.0,
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
	}
	if s := toJSON(t, got); strings.Contains(s, "canary") { // O07
		t.Errorf("the log shows the query: %s", s)
	}

	open := openFor(request(t, "GET", "/", nil))
	open.Tunnel = "other"
	r.refused(r.open(open, ""), protocol.UnknownTunnel, false)
	if got := log.take(t); got["level"] != "WARN" || got["code"] != "unknown_tunnel" || got["sent"] != false || got["error"] == "" {
		t.Errorf("got %v", got)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestALongErrorIsCutInTheLog(t *testing.T) { // O06
	if got := detail(errors.New(strings.Repeat("x", 1<<20))); len(got) > 1<<10 {
		t.Errorf("got %d bytes", len(got))
	}
}
