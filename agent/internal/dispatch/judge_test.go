package dispatch

import (
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

func TestACallThatTheFileDoesNotAllowAnyMoreEnds(t *testing.T) {
	pattern, err := certs.ParsePattern("spiffe://cloud.example/api/other")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func([]config.Tunnel) []config.Tunnel
		ends   bool
	}{
		"the same":         {func(all []config.Tunnel) []config.Tunnel { return all }, false},
		"another method":   {func(all []config.Tunnel) []config.Tunnel { all[0].Allow.Methods = []string{"GET", "POST"}; return all }, false},
		"no method of it":  {func(all []config.Tunnel) []config.Tunnel { all[0].Allow.Methods = []string{"POST"}; return all }, true},
		"another's tunnel": {func(all []config.Tunnel) []config.Tunnel { all[0].Callers = certs.Patterns{pattern}; return all }, true},
		"no tunnel":        {func([]config.Tunnel) []config.Tunnel { return nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			more := make(chan struct{})
			orders := serveHTTP(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.WriteString(w, "begun")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-more:
				case <-q.Context().Done():
				}
			})
			ledger := serveTCP(t, "tcp", func(c net.Conn) { _, _ = io.Copy(c, c) })
			ledger.Name = "ledger"
			tunnels := []config.Tunnel{orders, ledger}
			r := newRelay(t, tunnels...)
			h := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "GET", Path: "/", Grant: full(grant.Grant{Caller: ada().Caller})}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if opened, err := protocol.ReadOpened(h); err != nil || opened.Code != protocol.OK {
				t.Fatal(opened, err)
			}
			if err := r.d.SetTunnels(c.change(tunnels[:1:1])); err != nil {
				t.Fatal(err)
			}
			if !c.ends {
				close(more)
			}
			_, err := io.Copy(io.Discard, h)
			if (err != nil) != c.ends {
				t.Errorf("got %v, want an end %t", err, c.ends)
			}
			_ = h.CloseWrite()
			if rep := r.report(); (rep.Code != protocol.OK) != c.ends {
				t.Errorf("%+v", rep)
			}
		})
	}
}

func TestATCPCallThatTheFileDoesNotAllowAnyMoreEnds(t *testing.T) {
	ledger := serveTCP(t, "tcp", func(c net.Conn) { _, _ = io.Copy(c, c) })
	r := newRelay(t, ledger)
	s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.TCP, Grant: []byte("ada")}, "hello")
	if opened, err := protocol.ReadOpened(s); err != nil || opened.Code != protocol.OK {
		t.Fatal(opened, err)
	}
	if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := r.d.SetTunnels(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("got %v, want a reset", err)
	}
	r.report()
}
