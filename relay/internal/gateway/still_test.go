package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

const still = 400 * time.Millisecond

func newStillRig(t *testing.T) *rig {
	r := newRig(t, nil)
	r.cfg.Limits.ExchangeIdle = still
	return r
}

// dial opens a connection of a caller over HTTP/1.1, on which the test writes by hand.
func (r *rig) dial(request string) *tls.Conn {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), r.tlsConfig(caller))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

func TestAnAnswerThatStandsStillIsCut(t *testing.T) { // W09
	for _, h2 := range []bool{false, true} {
		r := newStillRig(t)
		r.backend(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			<-q.Context().Done()
		})
		res, err := r.client(caller, h2).Do(r.request("GET", "orders", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err == nil || string(b) != "begun" {
			t.Errorf("got %q, %v; expected a beginning and a cut", b, err)
		}
		res.Body.Close()
		if rec := r.recorded(1)[0]; rec.Code != protocol.BackendTimeout || rec.Duration < still {
			t.Errorf("recorded as %+v", rec)
		}
	}
}

func TestACallerThatDoesNotReadIsCut(t *testing.T) { // W09
	r := newStillRig(t)
	gone := make(chan struct{})
	r.backend(func(w http.ResponseWriter, _ *http.Request) {
		defer close(gone)
		for buf := make([]byte, 1<<20); ; {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	})
	conn := r.dial("GET / HTTP/1.1\r\nHost: orders.dc1.example\r\n\r\n")
	<-gone
	conn.Close() // crypto/tls would try for 5 s to say goodbye
	if rec := r.recorded(1)[0]; rec.Code != protocol.BackendTimeout {
		t.Errorf("recorded as %+v", rec)
	}
}

func TestACallerThatStopsSendingIsCut(t *testing.T) { // W09
	r := newStillRig(t)
	r.backend(func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(io.Discard, q.Body) })
	// Of a length that is not announced, so that no rate is asked of it.
	conn := r.dial("POST / HTTP/1.1\r\nHost: orders.dc1.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.wantProblem(res, string(body), http.StatusGatewayTimeout, protocol.BackendTimeout)
}

func TestWhatMovesOrMayWaitIsNotCut(t *testing.T) {
	for name, header := range map[string]string{"moves": "text/plain", "events": "text/event-stream", "grpc": "application/grpc"} {
		t.Run(name, func(t *testing.T) {
			r := newStillRig(t)
			r.backend(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", header)
				pieces, pause := 2, 2*still
				if name == "moves" {
					pieces, pause = 8, still/4
				}
				for range pieces {
					_, _ = io.WriteString(w, "piece ")
					_ = http.NewResponseController(w).Flush()
					time.Sleep(pause)
				}
			})
			req := r.request("POST", "orders", "/", strings.NewReader("x"))
			req.Header.Set("Content-Type", header)
			if _, body := r.do(req); !strings.HasSuffix(body, "piece ") {
				t.Errorf("got %q", body)
			}
		})
	}
}
