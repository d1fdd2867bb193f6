package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

const (
	relayID  = "spiffe://cloud.example/relay/a"
	agentID  = "spiffe://dc1.example/agent/a"
	callerID = "spiffe://cloud.example/api/shop"
)

// rig is a front on loopback. Its agents' handler accepts one stream, proves, and echoes what comes on each; its
// callers' handler says how it was reached.
type rig struct {
	*Front
	t         *testing.T
	cloud, dc *certstest.CA
	source    *certstest.Source
	log       *lockedBuffer
	stop      func() error
	strangers *limit.Gate
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

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, cloud: certstest.NewCA(t, "cloud.example"), dc: certstest.NewCA(t, "dc1.example"), log: new(lockedBuffer)}
	r.source = certstest.NewSource(r.cloud.Issue(t, relayID, certstest.DNS("relay.example")), r.cloud, r.dc)
	r.strangers = limit.New(limit.Config{})
	cfg := Config{
		Address: "127.0.0.1:0",
		Agents:  certs.ServerConfig(r.source, nil, certs.AnyID),
		Callers: certs.CallerConfig(r.source, nil, nil),
		Agent:   echoAgent, Lane: echoLane, Caller: http.HandlerFunc(describe),
		Log:          slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		DrainTimeout: 5 * time.Second, Strangers: r.strangers,
	}
	if change != nil {
		change(&cfg)
	}
	r.strangers = cfg.Strangers
	var err error
	if r.Front, err = Listen(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// echoAgent proves on the first stream.
func echoAgent(ctx context.Context, s link.Session, proved func()) {
	var streams sync.WaitGroup
	defer streams.Wait()
	defer s.Close(nil)
	for {
		st, err := s.Accept(ctx)
		if err != nil {
			return
		}
		proved()
		streams.Go(func() {
			defer st.Close()
			if _, err := io.Copy(st, st); err == nil {
				_ = st.CloseWrite()
			}
		})
	}
}

// echoLane proves with its first bytes.
func echoLane(_ context.Context, conn *tls.Conn, _ link.Info, proved func()) {
	var b [64]byte
	n, err := conn.Read(b[:])
	if err != nil {
		return
	}
	proved()
	_, _ = conn.Write(b[:n])
}

// describe says how the caller came.
func describe(w http.ResponseWriter, r *http.Request) {
	c := FromContext(r.Context())
	if r.Header.Get("Prove") != "" {
		c.Proved()
	}
	fmt.Fprintf(w, "%s shown=%v source=%s", r.Proto, c.Peer.Shown(), c.Source.Addr())
}

func (r *rig) agentConfig() *tls.Config {
	source := certstest.NewSource(r.dc.Issue(r.t, agentID), r.cloud)
	return certs.ClientConfig(source, "relay.example", []string{protocol.ALPN}, certs.AnyID)
}

// dialAgent links up over TCP or QUIC.
func (r *rig) dialAgent(transport string, cfg *tls.Config) (link.Session, error) {
	if transport == "quic" {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		return quiclink.Dial(ctx, r.Addr().String(), "relay.example", cfg, link.Config{})
	}
	conn, err := tls.Dial("tcp", r.Addr().String(), cfg)
	if err != nil {
		return nil, err
	}
	return yamuxlink.Client(conn, link.Config{}, link.Info{})
}

// echo sends a word over a link and waits for it.
func echo(t *testing.T, s link.Session) error {
	st, err := s.Open(t.Context())
	if err != nil {
		return err
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(st, "word"); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	b, err := io.ReadAll(st)
	if err == nil && string(b) != "word" {
		err = fmt.Errorf("got %q", b)
	}
	return err
}

func (r *rig) callerConfig(id string) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true}
	if id != "" {
		cfg.Certificates = []tls.Certificate{r.cloud.Issue(r.t, id)}
	}
	return cfg
}

// client is a caller's, over HTTP/1.1, 2 or 3.
func (r *rig) client(version int, id string) *http.Client {
	r.t.Helper()
	if version == 3 {
		tr := &http3.Transport{TLSClientConfig: r.callerConfig(id), QUICConfig: &quic.Config{}}
		r.t.Cleanup(func() { tr.Close() })
		return &http.Client{Transport: tr}
	}
	p := new(http.Protocols)
	p.SetHTTP1(version == 1)
	p.SetHTTP2(version == 2)
	tr := &http.Transport{TLSClientConfig: r.callerConfig(id), Protocols: p}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (r *rig) get(c *http.Client, header http.Header) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", "https://"+r.Addr().String()+"/", nil)
	if err != nil {
		return nil, "", err
	}
	maps.Copy(req.Header, header)
	res, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// eventually waits for what becomes true by itself.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("it never came true that %s", what)
		}
	}
}

// wantClosed checks that the relay hangs up within d.
func wantClosed(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Errorf("the connection is still open after %v", d)
	}
}
