//go:build linux

package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fairlead/fairlead/e2e/servers"
)

func TestWebSocketEchoesThroughATunnel(t *testing.T) {
	w := servers.StartWebSocket(t, new(servers.Loopback))
	sock := tunnel{name: "sock", backend: "http://" + w.Addr.String()}
	s := startSite(t, options{}, sock)
	c := s.caller(t, nil, billingID, h1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "wss://"+sock.host()+"/chat", &websocket.DialOptions{
		HTTPClient: c.Client,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + s.token(t, sock.scope())}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(2 << 20)
	big := make([]byte, 1<<20)
	if _, err := io.ReadFull(servers.Noise(1), big); err != nil {
		t.Fatal(err)
	}
	for _, message := range []struct {
		kind websocket.MessageType
		data []byte
	}{
		{websocket.MessageText, []byte("ahoy")}, {websocket.MessageBinary, big}, {websocket.MessageText, nil},
	} {
		if err := conn.Write(ctx, message.kind, message.data); err != nil {
			t.Fatal(err)
		}
		kind, data, err := conn.Read(ctx)
		if err != nil || kind != message.kind || !bytes.Equal(data, message.data) {
			t.Fatalf("got a message of %d bytes, kind %v (%v); want %d bytes, kind %v", len(data), kind, err, len(message.data), message.kind)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("the goodbye was not answered: %v", err)
	}
}
