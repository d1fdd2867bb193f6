package dispatch

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

type countedStream struct {
	link.Stream
	writes atomic.Int32
}

func (s *countedStream) Write(p []byte) (int, error) {
	s.writes.Add(1)
	return s.Stream.Write(p)
}

func TestASmallResponseLeavesInOneWrite(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"none":    "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		tunnel := serveRaw(t, func(c net.Conn, _ string) { io.WriteString(c, answer) })
		n := int32(0)
		for tries := 0; n != 1 && tries < 50; tries++ { // a machine that is busy makes every backend slow
			n = writesFor(t, tunnel)
		}
		if n != 1 {
			t.Errorf("%s: %d writes, expected 1", name, n)
		}
	}
}

// writesFor counts what one GET's response leaves the agent in.
func writesFor(t *testing.T, tunnel config.Tunnel) int32 {
	t.Helper()
	r := newRelay(t, tunnel)
	agent, session := pair()
	defer agent.Close(nil)
	s, err := session.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := agent.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counted := &countedStream{Stream: accepted}
	var wg sync.WaitGroup
	wg.Go(func() { r.d.Serve(t.Context(), counted, agent.Info(), believe) })
	frame, err := protocol.Append(nil, openFor(request(t, "GET", "/", nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(append(frame, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"...)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || len(b) == 0 {
		t.Fatalf("got %q, %v", b, err)
	}
	s.Close()
	wg.Wait()
	return counted.writes.Load()
}

// Beside TestAHeaderIsPassedOnBeforeItsBody, where the backend is quick with its header.
func TestAHeaderIsPassedOnWheneverItComes(t *testing.T) {
	release := make(chan struct{})
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "GET" {
			<-time.After(5 * quick) // a slow one is what is tested
		}
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Length", "4")
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "body")
	}))
	body, stop := io.Pipe()
	defer stop.Close()
	answers := []answer{r.do(request(t, "GET", "/", nil)), r.do(request(t, "POST", "/", body))} // the second asks on
	close(release)
	for _, a := range answers {
		if got := a.body(t); got != "body" {
			t.Errorf("got %q", got)
		}
	}
}

func TestASecondRequestOnAStreamIsNoRequest(t *testing.T) { // W01, S02
	var calls atomic.Int32
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		calls.Add(1)
		<-time.After(5 * quick) // so that what is behind the request is read
		io.WriteString(w, req.URL.Path)
	}))
	first := "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
	s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "POST", Path: "/a"}, first+strings.Repeat("GET /b HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	a := r.answer(s, nil)
	if got := a.body(t); got != "/a" {
		t.Errorf("got %q", got)
	}
	if _, err := a.br.ReadByte(); err != io.EOF {
		t.Errorf("behind the response: got %v, want the end", err)
	}
	s.Close()
	r.report()
	if n := calls.Load(); n != 1 {
		t.Errorf("the backend got %d requests", n)
	}
}

func TestBytesThatComeWithAnUpgradeAreNotLost(t *testing.T) {
	for name, pause := range map[string]time.Duration{"quick": 0, "slow": 5 * quick} {
		r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) {
			<-time.After(pause)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			io.Copy(c, c)
		}))
		req := request(t, "GET", "/", nil)
		s := r.open(openFor(req), "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
		if _, err := protocol.ReadOpened(s); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(s)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
		if _, err := io.WriteString(s, "late"); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(br); err != nil || string(b) != "early late" {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
		if rep := r.report(); rep.Code != protocol.OK || rep.Status != 101 {
			t.Errorf("%s: got report %+v", name, rep)
		}
	}
}
