package authority

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// The authority listens on a unix socket, HTTP/1.1, for whoever runs relays on its host:
//
//	POST /v1/ask                       a request, and its answer
//	GET  /v1/bans                      the bans, for those who may use the socket
//	GET  /.well-known/spiffe-bundle    the bundle, for anybody
const (
	askPath  = "/v1/ask"
	bansPath = "/v1/bans"
	// BundlePath is where SPIFFE Federation §5 expects a bundle.
	BundlePath = "/.well-known/spiffe-bundle"

	maxAnswer  = 1 << 20
	askTimeout = 10 * time.Second
)

// Listen makes the socket, for the authority's user and its group. One that a dead process left is replaced.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s: another authority serves it", path), conn.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // relays on this host are in its group
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// Serve answers on ln until ctx ends, and closes it.
func (a *Authority) Serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+askPath, func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
		if err != nil {
			http.Error(w, fmt.Sprintf("a request of at most %d bytes is expected", MaxRequest), http.StatusRequestEntityTooLarge)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(a.Answer(r.Context(), text)) // who has hung up hears nothing
	})
	mux.HandleFunc("GET "+BundlePath, a.serveJSON(a.Bundle))
	mux.HandleFunc("GET "+bansPath, a.serveJSON(func() ([]byte, error) {
		b, err := a.folder.Bans()
		if err != nil {
			return nil, err
		}
		return json.Marshal(b)
	}))
	server := &http.Server{Handler: mux, ReadTimeout: askTimeout, WriteTimeout: askTimeout, IdleTimeout: time.Minute}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		_ = server.Shutdown(last) // what has not ended by then is cut
		_ = server.Close()
	})
	err := server.Serve(ln)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (a *Authority) serveJSON(get func() ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := get()
		if err != nil {
			a.log.Error("a question is not answered", "path", r.URL.Path, "error", err)
			http.Error(w, "the authority has a fault, which its log names", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // who has hung up hears nothing
	}
}

// Bundle is the trust domain's, in SPIFFE's format.
func (a *Authority) Bundle() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.load(); err != nil {
		return nil, err
	}
	return a.issuer.settings.bundle()
}

// A Client asks an authority by its socket. It is safe for concurrent use.
type Client struct{ http *http.Client }

// NewClient does not look at the socket.
func NewClient(path string) *Client {
	return &Client{&http.Client{Timeout: askTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second,
	}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ask is an Ask.
func (c *Client) Ask(ctx context.Context, request []byte) ([]byte, error) {
	return c.do(ctx, http.MethodPost, askPath, request)
}

// Bundle is the trust domain's, in SPIFFE's format.
func (c *Client) Bundle(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, BundlePath, nil)
}

// Bans are the authority's.
func (c *Client) Bans(ctx context.Context) (Bans, error) {
	text, err := c.do(ctx, http.MethodGet, bansPath, nil)
	if err != nil {
		return nil, err
	}
	b := Bans{}
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("asking the authority: %w", err)
	}
	return b, nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://authority"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("asking the authority: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("asking the authority: %w", err)
	}
	if response.StatusCode != http.StatusOK || len(answer) > maxAnswer {
		return nil, fmt.Errorf("asking the authority: status %d and %d bytes", response.StatusCode, len(answer))
	}
	return answer, nil
}
