package dispatch

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
)

func TestTheAgentRecordsItsOwnDecisions(t *testing.T) {
	var records []audit.Record
	reached := 0
	orders := serveHTTP(t, func(w http.ResponseWriter, q *http.Request) {
		reached++
		_, _ = io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(w, "yes")
	})
	orders.Allow.Methods, orders.AuditRequired = []string{"GET"}, true
	full := false
	r := newRelayWith(t, Config{Tunnels: []config.Tunnel{orders}, Audit: func(rec *audit.Record) error {
		if full {
			return errors.New("no room")
		}
		records = append(records, *rec)
		return nil
	}})
	call := func(method string) *protocol.Opened {
		t.Helper()
		s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.HTTP, CallID: "c-" + method, Method: method, Path: "/a", Grant: []byte("ada")}, method+" /a HTTP/1.1\r\nHost: x\r\n\r\n")
		m, err := protocol.ReadOpened(s)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, s)
		_ = s.CloseWrite()
		r.report()
		return m
	}
	call("GET")
	call("DELETE")
	if len(records) != 3 {
		t.Fatalf("%d records: %+v", len(records), records)
	}
	if d := records[0]; d.Kind != audit.KindDecision || d.Decision != audit.Allow || d.CallID != "c-GET" || d.User != "ada" || d.Method != "GET" || d.Path != "/a" {
		t.Errorf("%+v", d)
	}
	if e := records[1]; e.Kind != audit.KindEnd || e.CallID != "c-GET" || e.Status != 200 || e.Down == 0 || !e.Sent {
		t.Errorf("%+v", e)
	}
	if d := records[2]; d.Decision != audit.Deny || d.Code != "agent_denied" || !strings.Contains(d.Reason, "method") {
		t.Errorf("%+v", d)
	}
	full = true // O09
	if m := call("GET"); m.Code != protocol.AuditUnavailable || m.Sent || reached != 1 {
		t.Errorf("%+v, the backend was reached %d times", m, reached)
	}
	if m := call("DELETE"); m.Code != protocol.AgentDenied {
		t.Errorf("%+v", m)
	}
}
