package dispatch

import (
	"net/http"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestACallWithoutAGrantThatHoldsIsRefused(t *testing.T) {
	reached := 0
	r := newRelay(t, serveHTTP(t, func(http.ResponseWriter, *http.Request) { reached++ }))
	for raw, want := range map[string]protocol.Code{"unknown key": protocol.IdentityUnavailable, "invalid": protocol.AgentDenied, "ada": protocol.OK} {
		s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "GET", Path: "/", Grant: []byte(raw)}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		m, err := protocol.ReadOpened(s)
		if err != nil || m.Code != want || m.Code != protocol.OK && m.Sent {
			t.Errorf("%s: got %+v, %v, want %v", raw, m, err, want)
		}
		_ = s.CloseWrite()
		if (want == protocol.OK) != (reached == 1) {
			t.Errorf("%s: the backend was reached %d times", raw, reached)
		}
		reached = 0
		if rep := r.report(); rep.Code != want || (rep.Grant != nil) != (want == protocol.OK) {
			t.Errorf("%s: report %+v", raw, rep)
		}
	}
}
