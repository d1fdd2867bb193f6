package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func start(t *testing.T, s *Server) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run", "x.sock")
	ln, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return path
}

func TestOnlyTheOwnerMayOpenTheSocket(t *testing.T) { // O04
	path := start(t, &Server{Log: slog.New(slog.DiscardHandler)})
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v; expected 0600", st.Mode().Perm())
	}
}

func TestStatusAndReloadCross(t *testing.T) {
	var fault error
	path := start(t, &Server{
		Status: func() any { return map[string]int{"links": 2} },
		Reload: func() error { return fault },
		Log:    slog.New(slog.DiscardHandler),
	})
	c := Dial(path)
	var got map[string]int
	if err := c.Status(t.Context(), &got); err != nil || got["links"] != 2 {
		t.Errorf("status %v, %v", got, err)
	}
	if err := c.Reload(t.Context()); err != nil {
		t.Errorf("reload: %v", err)
	}
	fault = errors.New("x.yaml:3: listen: expected host:port")
	if err := c.Reload(t.Context()); err == nil || err.Error() != fault.Error() {
		t.Errorf("reload of a broken file: %v; expected the fault in its words", err)
	}
}

func TestASocketLeftBehindIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := start(t, &Server{Log: slog.New(slog.DiscardHandler)})
	if _, err := Listen(t.Context(), path); err == nil {
		t.Fatal("a second process took the socket of a live one")
	}
	dead := filepath.Join(t.TempDir(), "dead.sock")
	ln, err := Listen(t.Context(), dead)
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.(*listener).Listener.Close(); err != nil { // as a killed process does: the file stays
		t.Fatal(err)
	}
	ln, err = Listen(t.Context(), dead)
	if err != nil {
		t.Fatalf("a socket left behind blocks the start: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}
