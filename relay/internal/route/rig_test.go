package route

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

// rig is a router and its registry, where everybody owns every tunnel.
type rig struct {
	*Router
	registry *registry.Registry
	t        *testing.T
}

func newRig(t *testing.T) *rig {
	log := slog.New(slog.DiscardHandler)
	reg, err := registry.New(registry.Config{Owns: func(protocol.TunnelName, certs.ID) bool { return true }, Log: log, SessionsPerAgent: 100})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Registry: reg, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{r, reg, t}
}

func (r *rig) start(o routetest.Options, h routetest.Handler) *routetest.Agent {
	r.t.Helper()
	if o.ID.IsZero() {
		id, err := certs.ParseID("spiffe://dc1.example/agent/a")
		if err != nil {
			r.t.Fatal(err)
		}
		o.ID = id
	}
	return routetest.Start(r.t, r.registry, o, h, "orders")
}

func openHTTP() *protocol.Open {
	return &protocol.Open{Tunnel: "orders", Network: protocol.HTTP, CallID: "call", Method: "GET", Path: "/", Timeout: 5 * time.Second}
}

func openTCP() *protocol.Open {
	return &protocol.Open{Tunnel: "orders", Network: protocol.TCP, CallID: "call", Timeout: 5 * time.Second}
}

// do sends one request as an HTTP call, and returns status and body.
func (r *rig) do(method, body string) (int, string, error) {
	r.t.Helper()
	var in io.Reader
	if body != "" {
		in = io.NopCloser(strings.NewReader(body)) // of a length that is not known
	}
	return r.send(r.t.Context(), method, in)
}

func (r *rig) send(ctx context.Context, method string, body io.Reader) (int, string, error) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://orders.example/", body)
	if err != nil {
		r.t.Fatal(err)
	}
	e := r.Exchange(openHTTP(), true)
	defer e.Close()
	res, err := e.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func (r *rig) wantFault(err error, code protocol.Code, sent bool) {
	r.t.Helper()
	e := protocol.AsError(err)
	if err == nil || e.Code != code || e.Sent != sent {
		r.t.Fatalf("error %v (sent %v), expected %v (sent %v)", err, e.Sent, code, sent)
	}
}

// echo is a backend that answers with its name, the method and the body.
func echo(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, name+" "+r.Method+" "+string(b))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// counted counts what a handler was asked.
type counted struct {
	mu    sync.Mutex
	calls int
}

func (c *counted) by(h routetest.Handler) routetest.Handler {
	return func(ctx context.Context, o *protocol.Open, s link.Stream) {
		c.mu.Lock()
		c.calls++
		c.mu.Unlock()
		h(ctx, o, s)
	}
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}
