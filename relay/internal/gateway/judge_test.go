package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// reruled makes the gate anew, of tunnels that are changed.
func (r *rig) reruled(change func(name string, t *tunnel.Tunnel)) {
	r.t.Helper()
	table, err := tunnel.NewTable(tunnels(change))
	if err != nil {
		r.t.Fatal(err)
	}
	gate, err := policy.New(policy.Config{Table: table, Source: r.source, Tokens: tokens{}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.gate = gate
	r.mu.Unlock()
	r.Judge()
}

func TestACallThatTheRulesDoNotAllowAnyMoreEnds(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		b := new(book)
		r.cfg.Audit = b.write
		more := make(chan struct{})
		r.backend(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.WriteString(w, "begun\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-more:
				_, _ = io.WriteString(w, "ended\n")
			case <-q.Context().Done():
			}
		})
		begin := func(tunnel string) (*http.Response, *bufio.Reader) {
			res, err := r.client(caller, h2).Do(r.request("GET", tunnel, "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = res.Body.Close() })
			br := bufio.NewReader(res.Body)
			if line, err := br.ReadString('\n'); line != "begun\n" || err != nil {
				t.Fatal(line, err)
			}
			return res, br
		}
		res, orders := begin("orders")
		_, small := begin("small")
		r.reruled(func(name string, t *tunnel.Tunnel) {
			switch name {
			case "orders":
				t.Callers = certs.Patterns{mustPattern("spiffe://cloud.example/api/other")}
			case "small":
				t.Body = 1 << 20 // another limit, and the same callers
			}
		})
		if rest, err := io.ReadAll(orders); err == nil || len(rest) > 0 {
			t.Errorf("h2 %t: got %q, %v, want a cut", h2, rest, err)
		}
		close(more)
		if rest, err := io.ReadAll(small); err != nil || string(rest) != "ended\n" {
			t.Errorf("h2 %t: the one that is still allowed: got %q, %v", h2, rest, err)
		}
		if e := b.of(t, res.Header.Get("Fairlead-Call-Id"), 2)[1]; e.Kind != audit.KindEnd || e.Code != "caller_denied" {
			t.Errorf("h2 %t: %+v", h2, e)
		}
	}
}

func TestACallThatWaitsForItsAnswerIsToldWhyItEnds(t *testing.T) {
	r := newRig(t, nil)
	arrived := make(chan struct{})
	r.backend(func(_ http.ResponseWriter, q *http.Request) {
		close(arrived)
		<-q.Context().Done()
	})
	go func() {
		<-arrived
		r.reruled(func(name string, t *tunnel.Tunnel) { t.Allow = `request.method == "POST"` })
	}()
	res, body := r.do(r.request("GET", "orders", "/", nil))
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode != http.StatusForbidden || p.Code != "denied" || p.Sent != "maybe" {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
}

func TestATCPCallThatTheRulesDoNotAllowAnyMoreEnds(t *testing.T) {
	r := newRig(t, nil)
	r.serve(func(_ context.Context, _ *protocol.Open, s link.Stream) {
		if routetest.Accept(s) == nil {
			_, _ = io.Copy(s, s)
		}
	})
	conn, br, _ := r.connect("ledger.dc1.example:5432", "", "")
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := br.ReadString('\n'); line != "hello\n" || err != nil {
		t.Fatal(line, err)
	}
	r.reruled(nil) // the same rules
	if _, err := io.WriteString(conn, "still\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := br.ReadString('\n'); line != "still\n" || err != nil {
		t.Fatal(line, err)
	}
	r.reruled(func(_ string, t *tunnel.Tunnel) {
		t.Callers = certs.Patterns{mustPattern("spiffe://cloud.example/api/other")}
	})
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := br.ReadString('\n'); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an end", err)
	}
}
