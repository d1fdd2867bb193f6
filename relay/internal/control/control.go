// Package control is the relay's own socket, for commands of its owner: status, reload and explain. It is a unix socket (on
// Windows too) that nobody else may open, so it needs no password, and no browser reaches it.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Server answers commands.
type Server struct {
	Status func() any   // what /v1/status answers, as JSON
	Reload func() error // reads the configuration again, whole or not at all
	// Explain answers /v1/explain: a question in JSON. What it returns is the answer, as JSON.
	Explain func(ctx context.Context, question []byte) (any, error)
	Log     *slog.Logger
}

// Listen makes the socket at path, mode 0600, replacing one that a process left behind when it died. It fails where
// another process answers on it.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: another process answers on it", path), conn.Close())
	}
	// It is made under another name and moved into place once its mode is right, so that there is no moment in
	// which others may connect.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), ln.Close(), os.Remove(fresh))
	}
	return &listener{ln, path}, nil
}

// listener removes the socket's file when it closes, under the name it was moved to.
type listener struct {
	net.Listener
	path string
}

func (l *listener) Close() error { return errors.Join(l.Listener.Close(), os.Remove(l.path)) }

// Run serves on ln, which it closes, until ctx ends.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST /v1/reload", s.reload)
	mux.HandleFunc("POST /v1/explain", s.explain)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- srv.Close() })
	err := srv.Serve(ln)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving control: %w", err)
	}
	return <-stopped
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.Status()); err != nil {
		s.Log.Warn("status not sent", "error", err)
	}
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	question, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	var answer any
	if err == nil {
		answer, err = s.Explain(r.Context(), question)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.Log.Warn("explanation not sent", "error", err)
	}
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if err := s.Reload(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
