package front

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/gateway"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/registry"
	"github.com/fairlead/fairlead/relay/internal/route"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// withGateway is a rig whose callers meet the real gateway, with an http tunnel "orders" and a tcp tunnel "ledger".
func withGateway(t *testing.T) *rig {
	var caller http.Handler
	ready := make(chan struct{})
	r := newRig(t, func(c *Config) {
		c.Caller = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			<-ready
			caller.ServeHTTP(w, q)
		})
	})
	callers, err := certs.ParsePattern("spiffe://cloud.example/api/*")
	if err != nil {
		t.Fatal(err)
	}
	var all []*tunnel.Tunnel
	for name, network := range map[string]protocol.Network{"orders": protocol.HTTP, "ledger": protocol.TCP} {
		all = append(all, &tunnel.Tunnel{
			Name: protocol.TunnelName(name), Network: network, Hosts: []tunnel.Host{tunnel.Host(name + ".dc1.example")},
			Callers: certs.Patterns{callers}, Timeout: 5 * time.Second,
		})
	}
	table, err := tunnel.NewTable(all)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := policy.New(policy.Config{Table: table, Source: r.source})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	reg, err := registry.New(registry.Config{Owns: func(protocol.TunnelName, certs.ID) bool { return true }, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	router, err := route.New(route.Config{Registry: reg, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := grant.NewSigner(r.source)
	if err != nil {
		t.Fatal(err)
	}
	caller, err = gateway.New(gateway.Config{
		Gate: func() gateway.Gate { return gate }, Router: router, Grants: signer, Log: log,
		Proof: func(ctx context.Context) gateway.Proof {
			c := FromContext(ctx)
			return gateway.Proof{Peer: c.Peer, Source: c.Source, Proved: c.Proved}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	id, err := certs.ParseID(agentID)
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, q.Header.Get("Fairlead-Caller")+" "+strings.ToUpper(string(b)))
		w.Header().Set("Grpc-Status", "0")
	}))
	t.Cleanup(backend.Close)
	routetest.Start(t, reg, routetest.Options{ID: id}, routetest.HTTP(backend.Listener.Addr().String()), "orders")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveTCP(c.(*net.TCPConn))
		}
	}()
	routetest.Start(t, reg, routetest.Options{ID: id, Name: "b"}, routetest.TCP(ln.Addr().String()), "ledger")
	return r
}

// serveTCP shouts back what it got, behind its end. Whoever says "q" first sees it end its direction first.
func serveTCP(c *net.TCPConn) {
	defer c.Close()
	first := make([]byte, 1)
	_, _ = io.ReadFull(c, first)
	if first[0] == 'q' {
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		return
	}
	b, _ := io.ReadAll(c)
	_, _ = io.WriteString(c, strings.ToUpper(string(first)+string(b)))
}

func TestCallsOfEveryHTTPVersionReachTheBackend(t *testing.T) {
	r := withGateway(t)
	for _, version := range []int{1, 2, 3} {
		body := strings.Repeat("x", 100_000)
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+r.Addr().String()+"/", strings.NewReader(body))
		req.Host = "orders.dc1.example"
		res, err := r.client(version, callerID).Do(req)
		if err != nil {
			t.Fatalf("HTTP/%d: %v", version, err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(b) != callerID+" "+strings.ToUpper(body) || res.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("HTTP/%d: status %d, %d bytes, trailer %v, %v", version, res.StatusCode, len(b), res.Trailer, err)
		}
		if n := r.strangers.Unproved(); n != version-1 {
			t.Errorf("HTTP/%d: %d strangers after a good call, expected %d", version, n, version-1)
		}
		req, _ = http.NewRequestWithContext(t.Context(), "GET", "https://"+r.Addr().String()+"/", nil)
		req.Host = "orders.dc1.example"
		if res, err = r.client(version, "").Do(req); err != nil || res.StatusCode != 403 {
			t.Fatalf("HTTP/%d without an SVID: %v", version, err)
		}
		_, _ = io.Copy(io.Discard, res.Body) // an unread body would cost HTTP/1.1 its connection
		res.Body.Close()
		if n := r.strangers.Unproved(); n != version { // one of each version so far
			t.Errorf("HTTP/%d: %d strangers, expected %d", version, n, version)
		}
	}
}

// connect3 sends a CONNECT over HTTP/3.
func (r *rig) connect3(target string, body io.Reader) *http.Response {
	r.t.Helper()
	req := &http.Request{
		Method: "CONNECT", URL: &url.URL{Scheme: "https", Host: r.Addr().String()}, Host: target, Body: io.NopCloser(body), Header: http.Header{},
	}
	res, err := r.client(3, callerID).Transport.(*http3.Transport).RoundTrip(req.WithContext(r.t.Context()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestConnectOverHTTP3ReachesATCPTunnel(t *testing.T) {
	r := withGateway(t)
	in, out := io.Pipe()
	res := r.connect3("ledger.dc1.example:5432", in)
	if res.StatusCode != 200 || res.Header.Get("Fairlead-Call-Id") == "" {
		t.Fatalf("status %d, header %v", res.StatusCode, res.Header)
	}
	_, _ = io.WriteString(out, "word")
	_ = out.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "WORD" {
		t.Fatalf("got %q, %v", b, err)
	}
	if res := r.connect3("orders.dc1.example:443", http.NoBody); res.StatusCode != 405 {
		t.Fatalf("CONNECT to an http tunnel: status %d", res.StatusCode)
	}
}

func TestABackendsEndLeavesTheCallersDirectionOpenOverHTTP3(t *testing.T) {
	r := withGateway(t)
	in, out := io.Pipe()
	res := r.connect3("ledger.dc1.example:5432", in)
	_, _ = io.WriteString(out, "q")
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "bye" {
		t.Fatalf("got %q, %v", b, err)
	}
	for range 100 { // the relay takes on what comes, long after the other direction's end
		if _, err := out.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	_ = out.Close()
}
