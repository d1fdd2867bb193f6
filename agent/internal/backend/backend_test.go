package backend

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http prints what misbehaving backends send
	goleak.VerifyTestMain(m)
}

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
		_, err = b.Dial(t.Context(), nil)
		failed(t, err, protocol.BackendUnreachable, false)
	}
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
