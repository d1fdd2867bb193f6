//go:build unix

package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// BenchmarkGET is one GET from the relay's handler over a link in memory and back: everything that the relay does
// between net/http's server and the link. -cpu 1 makes its time that of the CPU. The agent's end reads what it is sent
// and answers with bytes that were made before, so that little of the time is its own.
func BenchmarkGET(b *testing.B) {
	for name, size := range map[string]int{"small": 200, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, nil)
			r.serve(canned(b, size))
			g := r.bare()
			w := &nullWriter{header: http.Header{}}
			req := benchRequest(b)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				clear(w.header)
				w.wrote = 0
				g.ServeHTTP(w, req)
				if w.status != 200 || w.wrote != size {
					b.Fatalf("status %d, %d bytes", w.status, w.wrote)
				}
			}
		})
	}
}

// BenchmarkGate is what is decided for a call of a caller who was seen before: its SVID, its token, its tunnel.
func BenchmarkGate(b *testing.B) {
	r := newRig(b, nil)
	g := r.bare()
	req := benchRequest(b)
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		c := g.begin(req.Context(), req, g.cfg.Proof(req.Context()))
		if err := g.admit(req); err != nil {
			b.Fatal(err)
		}
		if err := c.decide(local{}); err != nil {
			b.Fatal(err)
		}
		c.done = true
		c.finish()
	}
}

// BenchmarkWholeGate is BenchmarkGate with everything that a call can be asked for and is remembered of: a JWT of a real issuer, CEL, a
// quota, a signed grant, and two lines in an audit's file (or none).
func BenchmarkWholeGate(b *testing.B) {
	for _, audited := range []bool{false, true} {
		name := "without audit"
		if audited {
			name = "with audit"
		}
		b.Run(name, func(b *testing.B) {
			g, req := wholeGate(b, audited)
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				c := g.begin(req.Context(), req, g.cfg.Proof(req.Context()))
				if err := g.admit(req); err != nil {
					b.Fatal(err)
				}
				if err := c.decide(local{}); err != nil {
					b.Fatal(err)
				}
				var err error
				if c.grant, err = g.grants.of(c.decision.Tunnel.Name, c.decision.Principal, c.began); err != nil {
					b.Fatal(err)
				}
				ended := c.runs()
				c.done = true
				ended()
				c.finish()
			}
		})
	}
}

func wholeGate(b *testing.B, audited bool) (*Gateway, *http.Request) {
	b.Helper()
	r := newRig(b, func(name string, t *tunnel.Tunnel) {
		if name == "secured" {
			t.Allow = `request.method == "GET" || "orders.write" in token.scopes`
			t.Quota, t.Per = limit.Quota{Rate: 1e9, Burst: 1e9}, tunnel.PerUser
		}
	})
	issuer := certstest.NewIssuer(b, issuerURL)
	tokens, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{{URL: issuerURL, Audiences: []string{"fairlead"}, JWKS: issuer.WriteJWKS(b, b.TempDir())}}})
	if err != nil {
		b.Fatal(err)
	}
	r.regate(nil, tokens)
	g := r.bare()
	signer, err := grant.NewSigner(r.source)
	if err != nil {
		b.Fatal(err)
	}
	g.grants = newGrants(signer)
	if audited {
		log, err := audit.Open(audit.Config{File: filepath.Join(b.TempDir(), "audit.jsonl"), Signer: r.source})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = log.Close() })
		g.cfg.Audit = log.Write
	}
	req := benchRequest(b)
	req.Header.Set("Authorization", "Bearer "+issuer.Mint(b, map[string]any{"scope": "orders.read"}))
	return g, req
}

func benchRequest(b *testing.B) *http.Request {
	b.Helper()
	ctx, cancel := context.WithCancel(context.WithValue(b.Context(), http.ServerContextKey, new(http.Server)))
	b.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/orders?id=7", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.RequestURI, req.Host, req.Body = "/v1/orders?id=7", "secured.dc1.example", http.NoBody
	req.Header = http.Header{
		"User-Agent": {"shop/1.0"}, "Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "Authorization": {"Bearer " + goodToken},
	}
	return req
}

// canned answers every call with size bytes, in as few writes as a link takes.
func canned(b *testing.B, size int) func(context.Context, *protocol.Open, link.Stream) {
	b.Helper()
	answer, err := protocol.Append(nil, &protocol.Opened{})
	if err != nil {
		b.Fatal(err)
	}
	answer = append(answer, "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: orders\r\nContent-Type: application/json\r\n"+
		"Cache-Control: no-cache\r\nContent-Length: "+strconv.Itoa(size)+"\r\n\r\n"...)
	answer = append(answer, bytes.Repeat([]byte("x"), size)...)
	end := []byte("\r\n\r\n")
	return func(_ context.Context, _ *protocol.Open, s link.Stream) {
		buf := make([]byte, 4<<10)
		for n := 0; !bytes.HasSuffix(buf[:n], end); {
			k, err := s.Read(buf[n:])
			if err != nil {
				return
			}
			n += k
		}
		if _, err := s.Write(answer); err != nil || s.CloseWrite() != nil {
			return
		}
		_ = s.SetReadDeadline(time.Now().Add(time.Minute))
		_, _ = io.Copy(io.Discard, s)
	}
}

// nullWriter is net/http's writer without its connection.
type nullWriter struct {
	header http.Header
	status int
	wrote  int
}

func (w *nullWriter) Header() http.Header              { return w.header }
func (w *nullWriter) WriteHeader(status int)           { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error)      { w.wrote += len(p); return len(p), nil }
func (w *nullWriter) FlushError() error                { return nil }
func (w *nullWriter) EnableFullDuplex() error          { return nil }
func (w *nullWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *nullWriter) SetWriteDeadline(time.Time) error { return nil }

// reportCPU reports what the process takes of the CPU for each call, steadier than its time on a machine that
// others use too.
func reportCPU(b *testing.B) func() {
	used := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
	}
	before := used()
	return func() { b.ReportMetric((used()-before)/float64(b.N), "cpu-us/op") }
}
