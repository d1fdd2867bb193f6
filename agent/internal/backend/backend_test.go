package backend

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/fairlead/fairlead/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func to(t *testing.T, cfg Config, url string) *Backend {
	t.Helper()
	var err error
	if cfg.Address, err = ParseAddress(url); err != nil {
		t.Fatal(err)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func request(t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://orders/v1", body)
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil // a proxied request has none
	req.Header.Set("User-Agent", "")
	return req
}

// failed checks for a coded error.
func failed(t *testing.T, err error, code protocol.Code, sent bool) {
	t.Helper()
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok || e.Code != code || e.Sent != sent || e.Sentence == "" {
		t.Errorf("got %v (%+v), want %v sent=%t", err, e, code, sent)
	}
}

// listen gives each connection on loopback to f, in its own goroutine.
func listen(t *testing.T, f func(net.Conn)) (address string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// readHeader returns a request's header as it came over the wire.
func readHeader(br *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := br.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

func roundTrip(t *testing.T, b *Backend, req *http.Request) error {
	t.Helper()
	resp, err := b.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// A kept-alive connection takes a second request and dies without an answer: the request may have been carried out,
// and net/http would send it again.
func TestARequestThatMayHaveBeenSentIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		method string
		header string
	}{
		{"GET", ""}, {"HEAD", ""}, {"OPTIONS", ""}, {"TRACE", ""}, {"DELETE", ""}, {"POST", ""},
		{"POST", "Idempotency-Key"}, {"PUT", "X-Idempotency-Key"}, {"GET", "Idempotency-Key"},
	} {
		t.Run(c.method+c.header, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			address := listen(t, func(conn net.Conn) {
				br := bufio.NewReader(conn)
				for i := range 2 {
					h := readHeader(br)
					if h == "" {
						return
					}
					mu.Lock()
					seen = append(seen, h)
					mu.Unlock()
					if i == 0 {
						io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				}
			})
			b := to(t, Config{}, "http://"+address)
			for i := range 2 {
				req := request(t, c.method, nil)
				if c.header != "" {
					req.Header.Set(c.header, "k1")
				}
				err := roundTrip(t, b, req)
				if i == 0 {
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				failed(t, err, protocol.BackendProtocol, true)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != 2 {
				t.Errorf("the backend saw %d requests, want 2", len(seen))
			}
			if c.header != "" && !strings.Contains(strings.ToLower(seen[0]), strings.ToLower(c.header)+": k1\r\n") {
				t.Errorf("the key is gone: %q", seen[0])
			}
		})
	}
}

func TestARequestWithoutBodyIsSentWithoutFraming(t *testing.T) {
	for method, want := range map[string]string{
		"GET":  "GET /v1 HTTP/1.1\r\nHost: orders\r\n\r\n",
		"POST": "POST /v1 HTTP/1.1\r\nHost: orders\r\nContent-Length: 0\r\n\r\n",
	} {
		got := make(chan string, 1)
		b := to(t, Config{}, "http://"+listen(t, func(c net.Conn) {
			got <- readHeader(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}))
		if err := roundTrip(t, b, request(t, method, nil)); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
}

// dyingConn is a connection whose peer has gone, which only a write finds out.
type dyingConn struct {
	Conn
	dead *bool
}

func (c dyingConn) Write(p []byte) (int, error) {
	if *c.dead {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

func TestARequestOfWhichNothingWasSentIsRepeated(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) }))
	t.Cleanup(s.Close)
	b := to(t, Config{}, s.URL)
	var dead *bool
	dial := b.main.DialContext
	b.main.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		dead = new(bool)
		cc := c.(*countedConn)
		cc.Conn = dyingConn{cc.Conn, dead}
		return cc, nil
	}
	for _, method := range []string{"GET", "POST"} {
		if err := roundTrip(t, b, request(t, method, nil)); err != nil {
			t.Fatal(err)
		}
		*dead = true
		if err := roundTrip(t, b, request(t, method, nil)); err != nil {
			t.Errorf("%s without body: got %v, want a second try", method, err)
		}
	}
	// With a body too, as long as the dead connection took none of it.
	*dead = true
	resp, err := b.RoundTrip(request(t, "POST", struct{ io.Reader }{strings.NewReader("order")}))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "order" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDialErrorsSayThatNothingWasSent(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, url := range []string{closed.URL, "unix:///nonexistent/x", "http://name.invalid"} {
		b := to(t, Config{DialTimeout: 2 * time.Second}, url)
		err := roundTrip(t, b, request(t, "GET", nil))
		failed(t, err, protocol.BackendUnreachable, false)
		if e := protocol.AsError(err); strings.Contains(e.Sentence, "127.0.0.1") || strings.Contains(e.Sentence, "nonexistent") || e.Cause == nil {
			t.Errorf("got sentence %q with cause %v", e.Sentence, e.Cause)
		}
		_, err = b.Dial(t.Context())
		failed(t, err, protocol.BackendUnreachable, false)
	}
}

// A name that is harmless when it is checked and leads to cloud metadata when it is dialled.
func TestAReboundNameIsRefused(t *testing.T) { // S04, CVE-2020-8562
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	t.Cleanup(s.Close)
	port := netip.MustParseAddrPort(s.Listener.Addr().String()).Port()
	for _, evil := range []string{"169.254.169.254", "168.63.129.16", "100.100.100.200", "0.0.0.0", "224.0.0.1"} {
		b := to(t, Config{}, "http://rebind.test:"+strconv.Itoa(int(port)))
		dns := &rebinding{answers: [][4]byte{{127, 0, 0, 1}, netip.MustParseAddr(evil).As4()}}
		b.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: dns.dial(t)}
		if err := roundTrip(t, b, request(t, "GET", nil)); err != nil {
			t.Fatal(err)
		}
		dns.next()
		failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendRefused, false)
		_, err := b.Dial(t.Context())
		failed(t, err, protocol.BackendRefused, false)
	}
}

// rebinding is a name server in memory.
type rebinding struct {
	mu      sync.Mutex // guards:
	answers [][4]byte
}

func (r *rebinding) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = r.answers[1:]
}

func (r *rebinding) dial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for {
				// Over a stream, as net.Pipe is one to the resolver, each message has its length in front.
				var n [2]byte
				if _, err := io.ReadFull(server, n[:]); err != nil {
					return
				}
				query := make([]byte, int(n[0])<<8|int(n[1]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				b := r.answer(t, query)
				if _, err := server.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
}

func (r *rebinding) answer(t *testing.T, query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Error(err)
		return nil
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		r.mu.Lock()
		defer r.mu.Unlock()
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type},
			Body:   &dnsmessage.AResource{A: r.answers[0]},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

func TestTimeoutsAreBackendTimeouts(t *testing.T) {
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	b := to(t, Config{HeaderTimeout: 50 * time.Millisecond}, "http://"+silent)
	failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTimeout, true)
	failed(t, roundTrip(t, b, request(t, "POST", strings.NewReader("x"))), protocol.BackendTimeout, true)
}

func TestASilentTLSBackendIsGivenUp(t *testing.T) {
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	b := to(t, Config{DialTimeout: 50 * time.Millisecond}, "https://"+silent)
	failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
}

func TestABodyThatBreaksOffIsTheCallersFault(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) }))
	t.Cleanup(s.Close)
	b := to(t, Config{}, s.URL)
	req := request(t, "POST", io.MultiReader(strings.NewReader("half"), brokenReader{}))
	failed(t, roundTrip(t, b, req), protocol.BadRequest, true)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	b := to(t, Config{}, "http://orders.dc1.example")
	if b.main.Proxy != nil {
		t.Error("the transport asks the environment for a proxy")
	}
}

func TestUnixSocketsSpeakHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
	s.Start()
	t.Cleanup(s.Close)
	if err := roundTrip(t, to(t, Config{}, "unix://"+path), request(t, "GET", nil)); err != nil {
		t.Error(err)
	}
}

// tlsServer starts an HTTPS server and writes its certificate, as CA, and a client certificate to files.
func tlsServer(t *testing.T, h2 bool) (url string, files TLSFiles) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { w.Header().Set("X-Proto", req.Proto) }))
	s.EnableHTTP2 = h2
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	files = TLSFiles{CA: filepath.Join(dir, "ca.pem"), ServerName: "example.com"}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(files.CA, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return s.URL, files
}

func TestHTTPSBackendsAreVerified(t *testing.T) { // S09
	url, files := tlsServer(t, true)
	resp, err := to(t, Config{TLS: files}, url).RoundTrip(request(t, "GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("X-Proto") != "HTTP/2.0" {
		t.Errorf("got %s, want HTTP/2 by ALPN", resp.Header.Get("X-Proto"))
	}
	noCA, otherName := files, files
	noCA.CA, otherName.ServerName = "", "other.example"
	for name, files := range map[string]TLSFiles{"unknown CA": noCA, "another name": otherName} {
		t.Run(name, func(t *testing.T) {
			b := to(t, Config{TLS: files}, url)
			failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
			_, err := to(t, Config{TLS: files}, strings.Replace(url, "https", "tls", 1)).Dial(t.Context())
			failed(t, err, protocol.BackendTLS, false)
		})
	}
	t.Run("expired", func(t *testing.T) {
		b := to(t, Config{TLS: files}, url)
		late := func() time.Time { return time.Now().AddDate(100, 0, 0) }
		b.tls.Time = late
		b.main, b.upgrade = b.transports(time.Second)
		failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
	})
	t.Run("plain text", func(t *testing.T) {
		plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked in plain text") }))
		t.Cleanup(plain.Close)
		b := to(t, Config{TLS: files}, strings.Replace(plain.URL, "http", "https", 1))
		failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
	})
}

func TestTLSFilesAreReadWhenTheBackendIsMade(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := ParseAddress("tls://a:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []TLSFiles{{CA: empty}, {CA: dir + "/none"}, {Cert: empty}, {Cert: empty, Key: empty}} {
		if _, err := New(Config{Address: a, TLS: files}); err == nil {
			t.Errorf("%+v: got no error", files)
		}
	}
}

func TestProbesTellAWellBackendFromASickOne(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	b := to(t, Config{}, s.URL)
	for _, path := range []string{"", "/healthz"} {
		if err := b.Probe(t.Context(), path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	failed(t, b.Probe(t.Context(), "/sick"), protocol.BackendProtocol, true)
}
