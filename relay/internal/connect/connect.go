// Package connect carries plain clients to a tunnel: a listener beside the caller, which opens one CONNECT to the relay for each
// TCP connection, or one upgrade to connect-udp (RFC 9298) for each sender of datagrams, with the caller's SVID and a token read
// from a file.
//
// It speaks HTTP/1.1 to the relay, the only version whose CONNECT can end one side at a time everywhere. It decides
// nothing: the relay does.
package connect

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// Config says where to and as whom. Every field is required unless it says otherwise.
type Config struct {
	Relay      string                 // host:port
	TunnelHost string                 // the tunnel's host, as the relay's file names it
	TLS        *tls.Config            // proves the relay, shows the caller's SVID; NextProtos is set here
	Token      func() (string, error) // asked anew for each connection; nil: no token is sent
	Log        *slog.Logger
}

const (
	maxConns    = 1024             // more wait in the listener's backlog
	openTimeout = 30 * time.Second // dial, handshake and the relay's answer
	maxProblem  = 16 << 10         // bytes of a refusal that are read
)

// RefusedError is the relay's answer other than 200.
type RefusedError struct {
	Status int
	Code   string // of the problem document, the word that the relay's log has
	Detail string
	CallID string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("relay answers %d %s: %s (call %s)", e.Status, e.Code, e.Detail, e.CallID)
}

// Serve carries every connection that ln accepts until ctx ends; it closes ln, and returns when every connection has
// ended.
func Serve(ctx context.Context, ln net.Listener, cfg Config) error {
	cfg.TLS = cfg.TLS.Clone()
	cfg.TLS.NextProtos = []string{"http/1.1"}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	slots := make(chan struct{}, maxConns)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting on %s: %w", ln.Addr(), err)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			carry(ctx, conn, cfg)
		})
	}
}

// carry serves one client. It cannot be told why in its own protocol, so the log says it.
func carry(ctx context.Context, client net.Conn, cfg Config) {
	defer client.Close()
	far, err := open(ctx, cfg, false)
	if err != nil {
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			cfg.Log.Warn("connection refused", "tunnel_host", cfg.TunnelHost, "code", refused.Code,
				"status", refused.Status, "detail", refused.Detail, "call_id", refused.CallID)
		} else if ctx.Err() == nil {
			cfg.Log.Error("relay not reached", "relay", cfg.Relay, "error", err)
		}
		return
	}
	defer func() { _ = far.Close() }() // it has ended by then
	up, down, err := link.Splice(ctx, client.(link.Duplex), far)
	if err != nil && ctx.Err() == nil {
		cfg.Log.Warn("connection broke", "tunnel_host", cfg.TunnelHost, "bytes_up", up, "bytes_down", down, "error", err)
	}
}

// tunnel is the connection to the relay after its 200: what the reader holds comes first.
type tunnel struct {
	*tls.Conn
	r *bufio.Reader
}

func (t *tunnel) Read(p []byte) (int, error) {
	if t.r.Buffered() > 0 {
		return t.r.Read(p)
	}
	return t.Conn.Read(p)
}

// open asks for a connection, or, with udp, for a flow.
func open(ctx context.Context, cfg Config, udp bool) (*tunnel, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	header := http.Header{}
	if cfg.Token != nil {
		token, err := cfg.Token()
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		name := "Proxy-Authorization"
		if udp {
			name = "Authorization"
		}
		header.Set(name, "Bearer "+token)
	}
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	raw, err := d.DialContext(ctx, "tcp", cfg.Relay)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg.TLS)
	fail := func(err error) (*tunnel, error) { return nil, errors.Join(err, raw.Close()) }
	if err := conn.HandshakeContext(ctx); err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	target := net.JoinHostPort(cfg.TunnelHost, "443") // the port is ignored
	req, want := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: header}, http.StatusOK
	if udp {
		header.Set("Connection", "Upgrade")
		header.Set("Upgrade", "connect-udp")
		header.Set("Capsule-Protocol", "?1")
		req = &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/.well-known/masque/udp/" + cfg.TunnelHost + "/443/"}, Host: cfg.TunnelHost, Header: header}
		want = http.StatusSwitchingProtocols
	}
	if err := req.Write(conn); err != nil {
		return fail(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req) //nolint:bodyclose // what follows is the connection, closed as such
	if err != nil {
		return fail(fmt.Errorf("relay's answer: %w", err))
	}
	if resp.StatusCode != want {
		return fail(refusal(resp))
	}
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return &tunnel{conn, r}, nil
}

// refusal reads the problem document (RFC 9457); an answer without one is told by its status alone.
func refusal(resp *http.Response) error {
	e := &RefusedError{Status: resp.StatusCode, Code: strings.ToLower(http.StatusText(resp.StatusCode)), CallID: resp.Header.Get("Fairlead-Call-Id")}
	var problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&problem); err == nil && problem.Code != "" {
		e.Code, e.Detail = problem.Code, problem.Detail
	}
	return e
}
