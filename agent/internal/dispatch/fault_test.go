package dispatch

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

func TestACallerWhoGoesAwayCancelsTheBackend(t *testing.T) {
	began, gone := make(chan struct{}), make(chan struct{})
	tunnel := serveHTTP(t, func(_ http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			t.Error(err)
		}
		close(began)
		<-req.Context().Done()
		close(gone)
	})
	r := newRelay(t, tunnel)
	s := r.send(request(t, "POST", "/", strings.NewReader("order")))
	<-began
	s.Reset(uint16(protocol.Canceled))
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the backend still works after 10 s")
	}
	if rep := r.report(); rep.Code != protocol.Canceled {
		t.Errorf("got report %+v, want canceled", rep)
	}
}

func TestACallerWhoGoesAwayWhileReadingCancelsTheBackend(t *testing.T) {
	gone := make(chan struct{})
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		for req.Context().Err() == nil {
			w.Write(make([]byte, 1<<16))
		}
		close(gone)
	}))
	req := request(t, "GET", "/", nil)
	s := r.send(req)
	r.answer(s, req)
	s.Reset(uint16(protocol.Canceled))
	<-gone
}

func TestASilentBackendIsATimeout(t *testing.T) {
	silent := func(c net.Conn, _ string) { io.Copy(io.Discard, c) }
	t.Run("header", func(t *testing.T) {
		tunnel := serveRaw(t, silent)
		tunnel.Timeouts.Header = 50 * time.Millisecond
		r := newRelay(t, tunnel)
		r.refused(r.send(request(t, "GET", "/", nil)), protocol.BackendTimeout, true)
	})
	t.Run("open", func(t *testing.T) {
		r := newRelay(t, serveRaw(t, silent))
		open := openFor(request(t, "GET", "/", nil))
		open.Timeout = 50 * time.Millisecond
		r.refused(r.open(open, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), protocol.BackendTimeout, true)
	})
	t.Run("idle", func(t *testing.T) {
		tunnel := serveRaw(t, func(c net.Conn, _ string) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			io.Copy(io.Discard, c)
		})
		tunnel.Timeouts.Idle = 100 * time.Millisecond
		r := newRelay(t, tunnel)
		_, err := io.ReadAll(r.send(request(t, "GET", "/", nil)))
		if reset, ok := errors.AsType[*link.ResetError](err); !ok || protocol.Code(reset.Code) != protocol.BackendTimeout {
			t.Errorf("got %v, want a reset with backend_timeout", err)
		}
	})
}

func TestAnUnreachableBackendIsARefusal(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tunnel := tunnelTo(t, "http://"+l.Addr().String())
	l.Close()
	r := newRelay(t, tunnel)
	r.refused(r.send(request(t, "POST", "/", strings.NewReader("x"))), protocol.BackendUnreachable, false)
	if rep := r.report(); rep.Code != protocol.BackendUnreachable || rep.Sent || rep.Err == nil {
		t.Errorf("got report %+v", rep)
	}
}

func TestAnEarlyResponseToALargeUploadArrivesWhole(t *testing.T) {
	const size = 1 << 20
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		w.Write(make([]byte, size))
	}))
	for name, length := range map[string]int64{"content length": 10 << 30, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			body, stop := endless()
			defer stop()
			req := request(t, "POST", "/", body)
			req.ContentLength = length
			a := r.do(req)
			if got := len(a.body(t)); a.StatusCode != http.StatusRequestEntityTooLarge || got != size {
				t.Errorf("got %d with %d bytes", a.StatusCode, got)
			}
		})
	}
}

// endless is a body that never ends until stop.
func endless() (io.Reader, func()) {
	pr, pw := io.Pipe()
	go func() {
		for {
			if _, err := pw.Write(make([]byte, 1<<14)); err != nil {
				return
			}
		}
	}()
	return struct{ io.Reader }{pr}, func() { pr.CloseWithError(io.ErrClosedPipe) }
}

func TestARequestThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	var whole atomic.Bool
	r := newRelay(t, serveHTTP(t, func(_ http.ResponseWriter, req *http.Request) {
		if _, err := io.ReadAll(req.Body); err == nil {
			whole.Store(true)
		}
	}))
	open := &protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "POST", Path: "/"}
	for _, framing := range []string{"Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		s := r.open(open, "POST / HTTP/1.1\r\nHost: x\r\n"+framing)
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.refused(s, protocol.BadRequest, true)
	}
	if whole.Load() {
		t.Error("the backend took half a body for a whole one")
	}
}

func TestAStreamWithoutOpenIsReset(t *testing.T) {
	r := newRelayWith(t, Config{OpenTimeout: 50 * time.Millisecond})
	for name, bytes := range map[string]string{
		"silence": "", "garbage": "GET / HTTP/1.1\r\n\r\n", "oversized": "\x10\xff\xff\xff", "another frame": "\x11\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := r.session.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := io.WriteString(s, bytes); err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(s)
			if reset, ok := errors.AsType[*link.ResetError](err); !ok || protocol.Code(reset.Code) != protocol.BadRequest {
				t.Errorf("got %v, want a reset with bad_request", err)
			}
		})
	}
}

func TestAHeaderThatTakesTooLongIsRefused(t *testing.T) { // W09
	cfg := Config{HeaderTimeout: 50 * time.Millisecond}
	cfg.Tunnels = []config.Tunnel{serveHTTP(t, func(http.ResponseWriter, *http.Request) { t.Error("the backend was called") })}
	r := newRelayWith(t, cfg)
	for _, part := range []string{"", "GET / HTTP/1.1\r\nHost"} {
		r.refused(r.open(openFor(request(t, "GET", "/", nil)), part), protocol.RequestTimeout, false)
	}
}

func TestAnEndingLinkEndsItsCalls(t *testing.T) {
	began, gone := make(chan struct{}), make(chan struct{})
	r := newRelay(t, serveHTTP(t, func(_ http.ResponseWriter, req *http.Request) {
		close(began)
		<-req.Context().Done()
		close(gone)
	}))
	r.send(request(t, "GET", "/", nil))
	<-began
	r.session.Close(nil)
	<-gone
	if rep := r.report(); rep.Code != protocol.LinkLost {
		t.Errorf("got report %+v, want link_lost", rep)
	}
}

func TestAPanicEndsItsCallAlone(t *testing.T) {
	var calls atomic.Int32
	cfg := Config{Tunnels: nil, Began: func(protocol.TunnelName, protocol.Network) {
		if calls.Add(1) == 1 {
			panic("a bug")
		}
	}}
	cfg.Tunnels = append(cfg.Tunnels, serveHTTP(t, func(http.ResponseWriter, *http.Request) {}))
	r := newRelayWith(t, cfg)
	_, err := io.ReadAll(r.send(request(t, "GET", "/", nil)))
	if reset, ok := errors.AsType[*link.ResetError](err); !ok || protocol.Code(reset.Code) != protocol.Internal {
		t.Errorf("got %v, want a reset with internal", err)
	}
	if rep := r.report(); rep.Code != protocol.Internal {
		t.Errorf("got report %+v, want internal", rep)
	}
	if a := r.do(request(t, "GET", "/", nil)); a.StatusCode != 200 {
		t.Errorf("the next call got %d", a.StatusCode)
	}
}

func TestReplacedTunnelsServeOnAndFaultyOnesChangeNothing(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	slow := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-release
		io.WriteString(w, "old")
	})
	r := newRelay(t, slow)
	req := request(t, "GET", "/", nil)
	s := r.send(req)
	<-began
	bad := tunnelTo(t, "https://127.0.0.1:1")
	bad.TLS.CA = "/nonexistent"
	if err := r.d.SetTunnels([]config.Tunnel{bad}); err == nil {
		t.Error("a tunnel without its CA was taken")
	}
	next := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "new") })
	if err := r.d.SetTunnels([]config.Tunnel{next}); err != nil {
		t.Fatal(err)
	}
	if got := r.do(request(t, "GET", "/", nil)).body(t); got != "new" {
		t.Errorf("a new call got %q", got)
	}
	close(release)
	if got := r.answer(s, req).body(t); got != "old" {
		t.Errorf("the running call got %q", got)
	}
}
