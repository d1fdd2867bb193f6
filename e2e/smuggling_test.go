//go:build linux

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// seen is a backend that keeps what reaches it. Its canary is never asked for with a token, so that whoever gets there
// has been smuggled.
type seen struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request // with their trailers: guarded by mu
}

func startSeen(t *testing.T) *seen {
	t.Helper()
	s := new(seen)
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a body that breaks off counts as seen too
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// take returns the requests since the last take.
func (s *seen) take() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

// requestsNow returns them without taking them.
func (s *seen) requestsNow() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// python is a server of the standard library's, which reads bodies of both framings.
const python = `
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Transfer-Encoding"):
            while n := int(self.rfile.readline().split(b";")[0], 16): self.rfile.read(n + 2)
            while self.rfile.readline().strip(): pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    do_POST = do_PUT = do_GET
s = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), H)
print("up", flush=True)
s.serve_forever()
`

func startPython(t *testing.T) (*process.Process, string) {
	t.Helper()
	program, address := process.Program(t, "python3", "python3"), servers.FreePort(t, new(servers.Loopback))
	cmd := new(servers.Loopback).Command(context.WithoutCancel(t.Context()), program, "-c", python, address.Addr().String(), fmt.Sprint(address.Port()))
	p := process.Start(t, "python", cmd)
	p.Accepts(t, new(servers.Loopback), address.String())
	return p, address.String()
}

// smuggled are requests of one caller whose end can be seen in two places, each with the canary behind one of them.
// %s is the host, a header with a good token, and the canary.
var smuggled = map[string]struct {
	request string
	status  []int // of the first answer; 0: none
}{
	"length and chunks":       {"POST / HTTP/1.1\r\n%sContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", []int{200, 400}},
	"chunks and length":       {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nContent-Length: 400\r\n\r\n0\r\n\r\n%s", []int{200, 400}},
	"chunked twice":           {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", []int{400, 501}},
	"chunked, identity":       {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked, identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{400, 501}},
	"identity, length":        {"POST / HTTP/1.1\r\n%sTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{400, 501}},
	"xchunked":                {"POST / HTTP/1.1\r\n%sTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{400, 501}},
	"chunked behind a tab":    {"POST / HTTP/1.1\r\n%sTransfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{400, 501}},
	"encoding before a colon": {"POST / HTTP/1.1\r\n%sTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{400}},
	"underscore twin":         {"POST / HTTP/1.1\r\n%sTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{200}},
	"folded encoding":         {"POST / HTTP/1.1\r\n%sTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{200, 400}},
	"two lengths":             {"POST / HTTP/1.1\r\n%sContent-Length: 0\r\nContent-Length: 400\r\n\r\n%s", []int{400}},
	"lengths in one":          {"POST / HTTP/1.1\r\n%sContent-Length: 0, 400\r\n\r\n%s", []int{400}},
	"length with a sign":      {"POST / HTTP/1.1\r\n%sContent-Length: +0\r\n\r\n%s", []int{400}},
	"length with a space":     {"POST / HTTP/1.1\r\n%sContent-Length: 0 0\r\n\r\n%s", []int{400}},
	"length in hexadecimal":   {"POST / HTTP/1.1\r\n%sContent-Length: 0x0\r\n\r\n%s", []int{400}},
	"bare LF in an extension": {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n%s", []int{0, 400, 502}},
	"bare CR in an extension": {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n0;\rx\r\n\r\n%s", []int{0, 200, 400, 502}},
	"size with a sign":        {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n%s", []int{0, 400, 502}},
	"size beyond 64 bits":     {"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n%s", []int{0, 400, 502}},
	"bare CR in a header":     {"POST / HTTP/1.1\r\n%sX: a\rContent-Length: 400\r\n\r\n%s", []int{400}},
	"NUL in a header":         {"POST / HTTP/1.1\r\n%sX: a\x00b\r\n\r\n%s", []int{400}},
	"NUL in a name":           {"POST / HTTP/1.1\r\n%sX\x00: a\r\n\r\n%s", []int{400}},
	"space before a colon":    {"POST / HTTP/1.1\r\n%sContent-Length : 400\r\n\r\n%s", []int{400}},
	"no name":                 {"POST / HTTP/1.1\r\n%s: 400\r\n\r\n%s", []int{400}},
	"space in the target":     {"POST / /canary HTTP/1.1\r\n%s\r\n%s", []int{400}},
	"HTTP/0.9":                {"POST /\r\n%s\r\n%s", []int{400}},
	"chunks for HTTP/1.0":     {"POST / HTTP/1.0\r\n%sTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", []int{200, 400, 501}},
	"body of a GET":           {"GET / HTTP/1.1\r\n%sContent-Length: 5\r\n\r\n0\r\n\r\n%s", []int{200}},
	"upgrade to h2c":          {"GET / HTTP/1.1\r\n%sConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\r\n%s", []int{501}}, // W05
	"upgrade without a word":  {"GET / HTTP/1.1\r\n%sConnection: keep-alive\r\nUpgrade: h2c\r\n\r\n%s", []int{501}},
	"two upgrades":            {"GET / HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n%s", []int{501}},
	"websocket refused":       {"GET / HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\n%s", []int{200}},
	"two tokens":              {"GET / HTTP/1.1\r\n%sAuthorization: Bearer other\r\n\r\n%s", []int{400, 401}}, // J01
	"two hosts":               {"GET / HTTP/1.1\r\n%sHost: elsewhere\r\n\r\n%s", []int{400}},
	"opaque target":           {"GET x:canary HTTP/1.1\r\n%s\r\n%s", []int{400, 403, 404}},
	"target of another host":  {"GET https://elsewhere/canary HTTP/1.1\r\n%s\r\n%s", []int{404}}, // S06
	"CONNECT":                 {"CONNECT elsewhere:443 HTTP/1.1\r\n%s\r\n%s", []int{403, 404, 405, 407}},
}

func TestNoRequestIsSmuggledPastTheDecision(t *testing.T) { // W01, W05, J01, S06
	nginx, backend := servers.StartNginx(t, new(servers.Loopback)), startSeen(t)
	python, pythonAddress := startPython(t)
	s := startSite(t, options{}, tunnel{name: "go", backend: backend.URL},
		tunnel{name: "nginx", backend: "http://" + nginx.Addr.String()}, tunnel{name: "python", backend: "http://" + pythonAddress})
	for _, name := range []string{"go", "nginx", "python"} {
		host := s.tunnel(t, name).host()
		head := fmt.Sprintf("Host: %s\r\nAuthorization: Bearer %s\r\n", host, s.token(t, name+".use"))
		canary := fmt.Sprintf("PUT /upload/canary HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", host)
		for what, c := range smuggled {
			t.Run(name+"/"+what, func(t *testing.T) {
				status := s.raw(t, fmt.Sprintf(c.request, head, canary))
				if name != "nginx" && !slices.Contains(c.status, status) { // nginx has answers of its own
					t.Errorf("answered %d, expected one of %d", status, c.status)
				}
				// Whatever a backend still makes of it comes before the answer to the next call.
				r := s.caller(t, nil, billingID, h1)
				if _, err := r.do(t, call{tunnel: name, path: "/"}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, r := range backend.take() {
		if strings.Contains(r.RequestURI, "canary") {
			t.Errorf("the Go server got %s %s", r.Method, r.RequestURI)
		}
	}
	if _, err := os.Stat(filepath.Join(nginx.Root, "upload", "canary")); err == nil {
		t.Error("nginx got the canary")
	}
	if log := python.Log().String(); strings.Contains(log, "canary") || !strings.Contains(log, "GET / ") {
		t.Errorf("the canary is in Python's log, or nothing: %s", log)
	}
}

// raw sends bytes as a good caller over HTTP/1.1, and returns the first answer's status, 0 without one. It ends
// nothing before that: to net/http a caller who ends its direction is gone.
func (s *site) raw(t *testing.T, request string) int {
	t.Helper()
	config := s.tlsConfig(t, billingID)
	config.ServerName, config.NextProtos = "go.dc1.example", []string{"http/1.1"}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.address.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("neither an answer nor an end within 20 s")
	}
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode
}
