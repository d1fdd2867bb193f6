package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

// An agent that switches protocols unasked would have the caller's connection, and with it the requests that follow,
// token and all, which nobody decides on any more.
func TestAnUnaskedSwitchOfProtocolsIsNoAnswer(t *testing.T) { // W06
	for name, header := range map[string]string{
		"to nothing":   "",
		"to websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			heard := make(chan string, 1)
			r.serve(func(_ context.Context, _ *protocol.Open, s link.Stream) {
				if _, err := http.ReadRequest(bufio.NewReader(s)); err != nil || routetest.Accept(s) != nil {
					return
				}
				_, _ = io.WriteString(s, "HTTP/1.1 101 Switching Protocols\r\n"+header+"\r\n")
				b, _ := io.ReadAll(s)
				heard <- string(b)
			})
			conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), r.tlsConfig(caller))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: orders.dc1.example\r\n\r\n"+
				"GET /next HTTP/1.1\r\nHost: secured.dc1.example\r\nAuthorization: Bearer canary\r\nConnection: close\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Error(err)
			}
			r.wantProblem(res, string(body), http.StatusBadGateway, protocol.BackendProtocol)
			if s := <-heard; strings.Contains(s, "canary") {
				t.Errorf("the agent got the caller's next request: %q", s)
			}
		})
	}
}
