package dispatch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

func TestResponsesStreamAsTheBackendWritesThem(t *testing.T) {
	next := make(chan struct{})
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-req.Context().Done():
			}
		}
	}))
	a := r.do(request(t, "GET", "/events", nil))
	br := bufio.NewReader(a.Body)
	for i := range 3 {
		line, err := br.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
			t.Fatalf("got %q, %v, want %q before the next is written", line, err, want)
		}
		if _, err := br.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
}

func TestServerSentEventsOutliveTheIdleTimeout(t *testing.T) {
	tunnel := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		<-time.After(300 * time.Millisecond) // the pause is what is tested
		io.WriteString(w, "data: late\n\n")
	})
	tunnel.Timeouts.Idle = 50 * time.Millisecond
	r := newRelay(t, tunnel)
	if got := r.do(request(t, "GET", "/", nil)).body(t); got != "data: late\n\n" {
		t.Errorf("got %q", got)
	}
}

func TestAHeaderIsPassedOnBeforeItsBody(t *testing.T) {
	release := make(chan struct{})
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "body")
	}))
	a := r.do(request(t, "GET", "/", nil))
	close(release)
	if got := a.body(t); got != "body" {
		t.Errorf("got %q", got)
	}
}

func TestExpectContinueIsTheBackendsToAnswer(t *testing.T) {
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		io.Copy(w, req.Body)
	}))
	head := func(path string) (*protocol.Open, string) {
		return &protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "POST", Path: path},
			"POST " + path + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	}
	s := r.open(head("/take"))
	if opened, err := protocol.ReadOpened(s); err != nil || opened.Code != protocol.OK {
		t.Fatalf("got %v, %v", opened, err)
	}
	br := bufio.NewReader(s)
	line, err := br.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 Continue") {
		t.Fatalf("got %q, %v, want 100 Continue first", line, err)
	}
	br.ReadString('\n')
	if _, err := io.WriteString(s, "hello"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" || resp.StatusCode != 200 {
		t.Errorf("got %d %q, %v, want one 100 and then the response", resp.StatusCode, b, err)
	}

	a := r.answer(r.open(head("/refuse")), nil)
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("got %d without the body being asked for, want 403", a.StatusCode)
	}
}

// dialStream makes http.Client speak on a stream of the link, Open and Opened aside.
func (r *relay) dialStream(open *protocol.Open) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		return &openedConn{Stream: r.open(open, "")}, nil
	}
}

type openedConn struct {
	link.Stream
	opened bool
}

func (c *openedConn) Read(p []byte) (int, error) {
	if !c.opened {
		c.opened = true
		m, err := protocol.ReadOpened(c.Stream)
		if err != nil {
			return 0, err
		}
		if m.Code != protocol.OK {
			return 0, &protocol.Error{Code: m.Code, Sentence: m.Sentence, Sent: m.Sent}
		}
	}
	return c.Stream.Read(p)
}

func (c *openedConn) LocalAddr() net.Addr  { return &net.UnixAddr{Net: "memory"} }
func (c *openedConn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "memory"} }

func TestWebSocketsWork(t *testing.T) {
	tunnel := serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(req.Context())
			if err != nil {
				return
			}
			if err := c.Write(req.Context(), kind, b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	tunnel.Timeouts.Idle = 50 * time.Millisecond
	r := newRelay(t, tunnel)
	client := &http.Client{Transport: &http.Transport{DialContext: r.dialStream(openFor(request(t, "GET", "/ws", nil)))}}
	c, resp, err := websocket.Dial(t.Context(), "ws://orders.dc1.example/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("got %d", resp.StatusCode)
	}
	<-time.After(150 * time.Millisecond) // longer than the idle time-out, which is not for WebSockets
	for _, want := range []string{"hello", strings.Repeat("x", 30<<10)} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != want {
			t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(want))
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	// The client here resets the stream once it has the backend's closing frame, which may be before the stream's end.
	if rep := r.report(); rep.Code != protocol.OK && rep.Code != protocol.Canceled || rep.Status != 101 {
		t.Errorf("got report %+v", rep)
	}
}

func TestAWebSocketWhoseBackendDiesIsReset(t *testing.T) {
	r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		c.(*net.TCPConn).SetLinger(0) // the close is a RST
	}))
	req := request(t, "GET", "/", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	s := r.open(openFor(req), "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, err := io.ReadAll(s)
	if reset, ok := errors.AsType[*link.ResetError](err); !ok || protocol.Code(reset.Code) != protocol.BackendProtocol {
		t.Errorf("got %v, want a reset with backend_protocol", err)
	}
}

func TestASwitchToAnotherProtocolIsNoAnswer(t *testing.T) { // W06
	for name, header := range map[string]string{"another": "Connection: Upgrade\r\nUpgrade: h2c\r\n", "none": ""} {
		r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n"+header+"\r\n")
		}))
		s := r.open(openFor(request(t, "GET", "/", nil)), "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		opened, err := protocol.ReadOpened(s)
		if err != nil || opened.Code != protocol.BackendProtocol || !opened.Sent {
			t.Errorf("%s: got %+v, %v, want backend_protocol", name, opened, err)
		}
	}
}
