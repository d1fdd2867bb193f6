package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestBodiesStreamBothWaysAtOnce(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		r.backend(func(w http.ResponseWriter, q *http.Request) {
			c := http.NewResponseController(w)
			_ = c.EnableFullDuplex()
			w.WriteHeader(200)
			_ = c.Flush()
			buf := make([]byte, 100)
			for {
				n, err := q.Body.Read(buf)
				_, _ = w.Write(bytes.ToUpper(buf[:n]))
				_ = c.Flush()
				if err != nil {
					return
				}
			}
		})
		in, out := io.Pipe()
		res, err := r.client(caller, h2).Do(r.request("POST", "orders", "/", in))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			word := fmt.Sprintf("word %d;", i)
			if _, err := io.WriteString(out, word); err != nil {
				t.Fatal(err)
			}
			back := make([]byte, len(word))
			if _, err := io.ReadFull(res.Body, back); err != nil || string(back) != strings.ToUpper(word) {
				t.Fatalf("h2 %v: got %q, %v", h2, back, err)
			}
		}
		_ = out.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatalf("h2 %v: %v", h2, err)
		}
		res.Body.Close()
	}
}

func TestEventsArriveWhileTheAnswerGoesOn(t *testing.T) {
	r := newRig(t, nil)
	next := make(chan struct{})
	r.backend(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range next {
			_, _ = io.WriteString(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
		}
	})
	go func() { next <- struct{}{} }()
	res, err := r.client(caller, false).Do(r.request("GET", "orders", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 9)
	for range 3 {
		if _, err := io.ReadFull(res.Body, buf); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
	}
	close(next)
}

func TestAWebSocketIsCarried(t *testing.T) {
	r := newRig(t, nil)
	r.backend(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Upgrade") != "websocket" {
			t.Errorf("Upgrade is %q", q.Header.Get("Upgrade"))
		}
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, brw)
	})
	conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), r.tlsConfig(caller))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: orders.dc1.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Fairlead-Call-Id") == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	for range 3 {
		_, _ = io.WriteString(conn, "frame")
		buf := make([]byte, 5)
		if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "frame" {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	_ = conn.CloseWrite()
	if _, err := io.Copy(io.Discard, br); err != nil {
		t.Fatal(err)
	}
}

func TestACallerThatGoesAwayCancelsTheBackendsRequest(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		inside, gone := make(chan struct{}), make(chan struct{})
		r.backend(func(_ http.ResponseWriter, q *http.Request) {
			close(inside)
			<-q.Context().Done()
			close(gone)
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-inside
			cancel()
		}()
		_, err := r.client(caller, h2).Do(r.request("GET", "orders", "/", nil).WithContext(ctx))
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		<-gone
		if rec := r.recorded(1)[0]; rec.Code != protocol.Canceled {
			t.Errorf("record %+v, expected canceled", rec)
		}
	}
}

func TestAnAnswerThatBreaksOffIsCutForTheCallerToo(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		begun := make(chan struct{})
		r.backend(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "beginning")
			_ = http.NewResponseController(w).Flush()
			<-begun // a reset drops what is still to be read, the header included
			panic(http.ErrAbortHandler)
		})
		res, err := r.client(caller, h2).Do(r.request("GET", "orders", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		close(begun)
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("h2 %v: an answer of %q that was cut came out whole", h2, b)
		}
		res.Body.Close()
		if rec := r.recorded(1)[0]; rec.Code != protocol.BackendProtocol {
			t.Errorf("h2 %v: record %+v, expected backend_protocol", h2, rec)
		}
		if n := r.lines(res.Header.Get("Fairlead-Call-Id"), "backend_protocol"); n != 1 {
			t.Errorf("h2 %v: %d lines in the log, expected 1", h2, n)
		}
	}
}
