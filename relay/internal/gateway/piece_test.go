package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

// saying reads a request and writes answers, each once the test has said so.
func saying(next <-chan string) routetest.Handler {
	return func(_ context.Context, _ *protocol.Open, s link.Stream) {
		if _, err := http.ReadRequest(bufio.NewReader(s)); err != nil || routetest.Accept(s) != nil {
			return
		}
		for text := range next {
			if _, err := io.WriteString(s, text); err != nil {
				return
			}
		}
		_ = s.CloseWrite()
		_, _ = io.Copy(io.Discard, s)
	}
}

func TestAWholeAnswerLeavesInOnePiece(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"none":    "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		r, next := newRig(t, nil), make(chan string, 1)
		r.serve(saying(next))
		next <- answer
		close(next)
		w := httptest.NewRecorder()
		r.bare().ServeHTTP(w, r.request("GET", "orders", "/", nil))
		if w.Code/100 != 2 || w.Flushed || name != "none" && w.Body.String() != "hello" {
			t.Errorf("%s: status %d, %q, flushed before its end: %v", name, w.Code, w.Body, w.Flushed)
		}
	}
}

func TestAHeaderIsPassedOnBeforeItsBody(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r, next := newRig(t, nil), make(chan string, 1)
		r.serve(saying(next))
		next <- "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
		res, err := r.client(caller, h2).Do(r.request("GET", "orders", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		for range 2 { // and each piece as it comes
			next <- "hello"
			if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != "hello" {
				t.Fatalf("h2 %v: got %q, %v", h2, buf, err)
			}
		}
		close(next)
		res.Body.Close()
	}
}

func TestNothingIsMadeUpForAnAnswer(t *testing.T) {
	r, next := newRig(t, nil), make(chan string, 1)
	r.serve(saying(next))
	next <- "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\r\n<html>"
	close(next)
	res, _ := r.do(r.request("GET", "orders", "/", nil))
	for _, name := range []string{"Content-Type", "X-Hop", "Keep-Alive"} {
		if v, ok := res.Header[name]; ok {
			t.Errorf("the caller got %s: %q", name, v)
		}
	}
}

func TestAQueryIsReadInOneWay(t *testing.T) { // W01
	for raw, want := range map[string]string{
		"": "", "a=b&c=%20d": "a=b&c=%20d", "a=b;c=d&e=f": "e=f", "a=%zz&b=1": "b=1", "a=%2": "", "a=%": "", "x+y=%C3%A9": "x+y=%C3%A9",
	} {
		if got := query(raw); got != want {
			t.Errorf("%q became %q, expected %q", raw, got, want)
		}
	}
}

func TestAWebSocketThatBreaksOffIsCutForTheCallerToo(t *testing.T) {
	r := newRig(t, nil)
	r.serve(func(_ context.Context, _ *protocol.Open, s link.Stream) {
		if _, err := http.ReadRequest(bufio.NewReader(s)); err != nil || routetest.Accept(s) != nil {
			return
		}
		_, _ = io.WriteString(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
		if _, err := s.Read(make([]byte, 1)); err == nil {
			s.Reset(uint16(protocol.BackendProtocol))
		}
	})
	conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), r.tlsConfig(caller))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: orders.dc1.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(conn)
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v, %v", res, err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "early" {
		t.Fatalf("got %q, %v", buf, err)
	}
	_, _ = io.WriteString(conn, "x")
	if _, err := br.ReadByte(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v, expected a cut", err)
	}
	if rec := r.recorded(1)[0]; rec.Code != protocol.BackendProtocol {
		t.Errorf("recorded as %+v", rec)
	}
}
