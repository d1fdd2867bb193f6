//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs/certstest"
)

// memory reads what a process has in memory, as far as it can be read.
func memory(t *testing.T, pid int) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var all []byte
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !strings.HasPrefix(mode, "rw") || to-from > 256<<20 { // beyond that it is the race detector's
			continue
		}
		b := make([]byte, to-from)
		n, err := mem.ReadAt(b, int64(from))
		if err != nil && !errors.Is(err, io.EOF) && n == 0 {
			continue // a guard page
		}
		all = append(all, b[:n]...)
	}
	return all
}

// O14: TLS that begins at the caller and ends at the server is not the relay's to read, nor the agent's.
func TestARelayInTheHandsOfSomebodyElseSeesCiphertextOnly(t *testing.T) {
	ca := certstest.NewCA(t, "backend.example")
	cert := ca.Issue(t, "spiffe://backend.example/server", certstest.DNS("vault.dc1.example"))
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	s := newSite(t, options{fast: true}, tunnel{name: "vault", protocol: "tcp", backend: "tcp://" + ln.Addr().String()},
		tunnel{name: "plain", backend: "https://" + ln.Addr().String(), agent: "tls: {ca: backend.pem, server_name: vault.dc1.example}"})
	certstest.WriteBundle(t, s.dir, "backend", ca)
	s.start(t)
	address := s.connect(t, nil, "vault")
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "vault.dc1.example"}, DisableKeepAlives: true}}
	canary := func(kind string) string { return "canary of " + kind + " words: " + strings.Repeat("tell nobody ", 3) }
	send := func(c *http.Client, url string, header http.Header, words string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(strings.Repeat(words, 100)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err != nil || !strings.HasPrefix(string(b), words) {
			t.Fatalf("%q, %v", b, err)
		}
	}
	open := s.caller(t, nil, billingID, h1)
	for range 20 {
		send(client, "https://"+net.JoinHostPort(address.Addr().String(), fmt.Sprint(address.Port())), http.Header{}, canary("sealed"))
		send(open.Client, "https://plain.dc1.example/", http.Header{"Authorization": {"Bearer " + s.token(t, "plain.use")}}, canary("open"))
	}
	for _, p := range []*program{s.relay, s.agent} {
		seen := memory(t, p.Pid())
		if bytes.Contains(seen, []byte(canary("sealed"))) {
			t.Errorf("%s has what was said over the caller's own TLS", p.name)
		}
		if !bytes.Contains(seen, []byte(canary("open"))) { // or this test would see nothing
			t.Errorf("%s has not even what was said in the open", p.name)
		}
	}
}

// O05, O08
func TestStrangersChooseNoMetricsAndFindNothingBesideThem(t *testing.T) {
	s, _ := startOrders(t, options{})
	count := func() int {
		m, err := s.relay.get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(m, "\n")
	}
	c := s.caller(t, nil, billingID, h1)
	probe := func(i int) {
		for _, k := range []call{{tunnel: fmt.Sprintf("nowhere-%d", i), path: fmt.Sprintf("/%d", i)}, {tunnel: "orders", path: fmt.Sprintf("/v1/orders/%d", i), method: fmt.Sprintf("M%d", i)},
			{tunnel: "orders", path: "/v1/orders", token: fmt.Sprintf("x.y.%d", i)}} {
			if _, err := c.do(t, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	probe(0)
	before := count()
	for i := range 100 {
		probe(i + 1)
	}
	if after := count(); after > before+5 { // of the Go runtime's own
		t.Errorf("%d lines of metrics have become %d", before, after)
	}
	for _, p := range []*program{s.relay, s.agent} {
		if !p.ops.Addr().IsLoopback() {
			t.Errorf("%s shows its metrics at %s", p.name, p.ops)
		}
		for _, path := range []string{"/debug/pprof/", "/debug/vars", "/", "/v1/status", "/v1/reload"} {
			if _, err := p.get(t.Context(), path); err == nil || !strings.Contains(err.Error(), "answers 404") {
				t.Errorf("%s%s: %v", p.name, path, err)
			}
		}
	}
}
