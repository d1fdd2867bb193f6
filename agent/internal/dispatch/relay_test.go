package dispatch

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// relay is the other end of a link whose agent serves streams with a Dispatcher.
type relay struct {
	t       testing.TB
	session link.Session
	d       *Dispatcher
	agent   *memlink.Session

	mu      sync.Mutex // guards: reports
	reports []Report
	ended   chan struct{} // one token a report
}

func newRelay(t testing.TB, tunnels ...config.Tunnel) *relay {
	t.Helper()
	return newRelayWith(t, Config{Tunnels: tunnels})
}

func newRelayWith(t testing.TB, cfg Config) *relay {
	t.Helper()
	r := &relay{t: t, ended: make(chan struct{}, 1<<16)}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Ended = func(rep *Report) {
		r.mu.Lock()
		r.reports = append(r.reports, *rep)
		r.mu.Unlock()
		r.ended <- struct{}{}
	}
	var err error
	if r.d, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.agent, r.session = pair()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			s, err := r.agent.Accept(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { r.d.Serve(ctx, s, r.agent.Info(), believe) })
		}
	})
	t.Cleanup(func() {
		r.session.Close(nil)
		r.agent.Close(nil)
		cancel()
		wg.Wait()
		r.d.Close()
	})
	return r
}

// believe takes for a grant whatever came as one: package grant has the tests of what is none.
func believe(raw []byte, _ protocol.TunnelName) (*grant.Grant, error) {
	switch string(raw) {
	case "unknown key":
		return nil, grant.ErrUnknownKey
	case "invalid":
		return nil, grant.ErrInvalid
	}
	g := new(grant.Grant)
	if json.Unmarshal(raw, g) != nil { // a grant in full, or a user
		g = &grant.Grant{User: string(raw)}
	}
	return g, nil
}

// full is a grant in full, which believe reads.
func full(g grant.Grant) []byte {
	b, err := json.Marshal(g)
	if err != nil {
		panic(err) // texts alone
	}
	return b
}

func pair() (*memlink.Session, link.Session) {
	agent, relay := memlink.Pair(link.Config{}, link.Config{})
	return agent, relay
}

// report waits for the next call's end.
func (r *relay) report() Report {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(10 * time.Second):
		r.t.Fatal("no call ended within 10 s")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.reports[0]
	r.reports = r.reports[1:]
	return rep
}

// open opens a stream and writes m, and behind it what follows.
func (r *relay) open(m *protocol.Open, follows string) link.Stream {
	r.t.Helper()
	s, err := r.session.Open(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	b, err := protocol.Append(nil, m)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.Write(append(b, follows...)); err != nil {
		r.t.Fatal(err)
	}
	if err := s.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func openFor(req *http.Request) *protocol.Open {
	return &protocol.Open{
		Tunnel: "orders", Network: protocol.HTTP, CallID: "c1", Method: req.Method, Path: req.URL.EscapedPath(),
	}
}

// send sends a request in its own goroutine, and returns the stream to read the answer from.
func (r *relay) send(req *http.Request) link.Stream {
	r.t.Helper()
	s := r.open(openFor(req), "")
	var wg sync.WaitGroup
	wg.Go(func() {
		// An error here is the agent's early end; the test judges that by what it reads.
		_ = req.Write(s)
	})
	r.t.Cleanup(func() { s.Reset(link.CodeCanceled); wg.Wait() })
	return s
}

// answer is what came back on a stream.
type answer struct {
	opened *protocol.Opened
	*http.Response
	br *bufio.Reader
}

func (r *relay) answer(s link.Stream, req *http.Request) answer {
	r.t.Helper()
	opened, err := protocol.ReadOpened(s)
	if err != nil {
		r.t.Fatalf("reading opened: %v", err)
	}
	a := answer{opened: opened, br: bufio.NewReader(s)}
	if opened.Code != protocol.OK {
		return a
	}
	if a.Response, err = http.ReadResponse(a.br, req); err != nil {
		r.t.Fatalf("reading the response: %v", err)
	}
	return a
}

func (r *relay) do(req *http.Request) answer {
	r.t.Helper()
	return r.answer(r.send(req), req)
}

func (a answer) body(t testing.TB) string {
	t.Helper()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	return string(b)
}

func request(t testing.TB, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://orders.dc1.example"+target, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// refused checks that the answer is this refusal and then a clean end.
func (r *relay) refused(s link.Stream, code protocol.Code, sent bool) {
	r.t.Helper()
	opened, err := protocol.ReadOpened(s)
	if err != nil {
		r.t.Fatalf("reading opened: %v", err)
	}
	if opened.Code != code || opened.Sent != sent || opened.Sentence == "" {
		r.t.Errorf("got %v %q sent=%t, want %v sent=%t", opened.Code, opened.Sentence, opened.Sent, code, sent)
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		r.t.Errorf("behind the refusal: got %d bytes and %v, want the end", n, err)
	}
}

func tunnelTo(t testing.TB, url string) config.Tunnel {
	t.Helper()
	a, err := backend.ParseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	return config.Tunnel{Name: "orders", Backend: a, Timeouts: config.Timeouts{Idle: time.Minute}}
}

func serveHTTP(t testing.TB, h http.HandlerFunc) config.Tunnel {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return tunnelTo(t, s.URL)
}

// serveRaw accepts connections one by one and gives each to f, with what has been read of its request's header.
func serveRaw(t testing.TB, f func(c net.Conn, header string)) config.Tunnel {
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
			wg.Go(func() {
				defer c.Close()
				f(c, readHeader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return tunnelTo(t, "http://"+l.Addr().String())
}

// readHeader reads up to the empty line, byte by byte, so that nothing behind it is lost.
func readHeader(c net.Conn) string {
	var b strings.Builder
	buf := make([]byte, 1)
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		if _, err := c.Read(buf); err != nil {
			break
		}
		b.Write(buf)
	}
	return b.String()
}
