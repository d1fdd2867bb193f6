//go:build linux

package servers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// maxMessage is the largest WebSocket message that is echoed, in bytes.
const maxMessage = 1 << 20

// WebSocket is a server that answers each WebSocket message with itself, at every path.
type WebSocket struct {
	Addr netip.AddrPort
}

// StartWebSocket starts the server, within the test, on the host, on a free port.
func StartWebSocket(t testing.TB, on Host) *WebSocket {
	t.Helper()
	l, err := on.Listen(t.Context(), "tcp", netip.AddrPortFrom(on.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	server.BaseContext = func(net.Listener) context.Context { return ctx } // Close does not reach hijacked connections
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			serving.Add(1)
		case http.StateHijacked, http.StateClosed:
			serving.Done()
		default:
		}
	}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		echoMessages(w, r)
	})
	serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the WebSocket server ended: %v", err)
		}
	})
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing the WebSocket server: %v", err)
		}
		cancel()
		serving.Wait()
	})
	return &WebSocket{Addr: netip.MustParseAddrPort(l.Addr().String())}
}

// echoMessages answers until the client says goodbye or is gone; either is how an echo ends.
func echoMessages(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // any origin
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}
