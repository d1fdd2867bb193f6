package dispatch

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

func TestABackendThatDiesMidBodyResetsTheStream(t *testing.T) {
	for name, response := range map[string]string{
		"content length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"chunked":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"broken chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) { io.WriteString(c, response) }))
			s := r.send(request(t, "GET", "/", nil))
			opened, err := protocol.ReadOpened(s)
			if err == nil && opened.Code == protocol.BackendProtocol && opened.Sent {
				return // it died before its header was passed on
			}
			_, err = io.ReadAll(s)
			if reset, ok := errors.AsType[*link.ResetError](err); !ok || protocol.Code(reset.Code) != protocol.BackendProtocol {
				t.Fatalf("got %v, want a reset with backend_protocol", err)
			}
		})
	}
}

func TestBackendMisbehaviourIsARefusal(t *testing.T) { // W06
	for name, response := range map[string]string{
		"no HTTP":           "SSH-2.0-OpenSSH_9.2\r\n",
		"nothing":           "",
		"bare LF in header": "HTTP/1.1 200 OK\r\nX-A\x00: b\r\n\r\n",
		"no colon":          "HTTP/1.1 200 OK\r\nX-Split\r\n\r\n",
		"two lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"bad length":        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
		"huge header":       "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"101 unasked":       "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"endless 1xx":       strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) { io.WriteString(c, response) }))
			s := r.send(request(t, "GET", "/", nil))
			if name == "endless 1xx" {
				if _, err := io.ReadAll(s); err == nil {
					t.Error("got an end, want a reset")
				}
				return
			}
			r.refused(s, protocol.BackendProtocol, true)
		})
	}
}

func TestASecondResponseIsNobodysAnswer(t *testing.T) { // W06
	var conns atomic.Int32
	closed := make(chan struct{}, 2)
	r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) {
		body := map[int32]string{1: "first", 2: "third"}[conns.Add(1)]
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"+body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
		io.Copy(io.Discard, c)
		closed <- struct{}{}
	}))
	for _, want := range []string{"first", "third"} {
		if got := r.do(request(t, "GET", "/", nil)).body(t); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		<-closed // the agent gave the connection up
	}
}

func TestHopByHopHeadersOfInformationalResponsesAreRemoved(t *testing.T) { // W06
	r := newRelay(t, serveRaw(t, func(c net.Conn, _ string) {
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}))
	s := r.send(request(t, "GET", "/", nil))
	if _, err := protocol.ReadOpened(s); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if !strings.HasPrefix(got, "HTTP/1.1 103 Early Hints\r\n") || !strings.Contains(got, "Link: </a>") {
		t.Errorf("the hints are gone, or the unasked 100 is not: %q", got)
	}
	if strings.Contains(got, "Hop") || strings.Contains(got, "Keep-Alive") {
		t.Errorf("hop-by-hop headers crossed: %q", got)
	}
	if strings.Contains(got, "Content-Type") || strings.Contains(got, "Date") {
		t.Errorf("the agent made headers up: %q", got)
	}
}
