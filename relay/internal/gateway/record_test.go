package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// book is an audit in memory.
type book struct {
	mu      sync.Mutex
	records []audit.Record
	full    bool
}

func (b *book) write(r *audit.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return errors.New("no room")
	}
	b.records = append(b.records, *r)
	return nil
}

func (b *book) fill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full = true
}

// of waits for the n records of a call.
func (b *book) of(t *testing.T, call string, n int) []audit.Record {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		var got []audit.Record
		for _, r := range b.records {
			if r.CallID == call {
				got = append(got, r)
			}
		}
		b.mu.Unlock()
		if len(got) == n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records of call %s, expected %d: %+v", len(got), call, n, got)
		}
	}
}

func newBook(t *testing.T) (*rig, *book) {
	t.Helper()
	r, b := newRig(t, func(name string, t *tunnel.Tunnel) { t.AuditRequired = name == "orders" }), new(book)
	r.cfg.Audit = b.write
	return r, b
}

func TestEveryDecisionIsRecordedAndHowItEnded(t *testing.T) {
	r, b := newBook(t)
	r.backend(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	})
	req := r.request("POST", "secured", "/v1/a%20b?secret=1", strings.NewReader("12345"))
	req.Header.Set("Authorization", "Bearer "+goodToken)
	req.Header.Set("Cookie", "canary")
	res, _ := r.do(req)
	got := b.of(t, res.Header.Get("Fairlead-Call-Id"), 2)
	if d := got[0]; d.Kind != audit.KindDecision || d.Decision != audit.Allow || d.Tunnel != "secured" || d.Method != "POST" || d.Path != "/v1/a%20b" ||
		d.Host != "secured.dc1.example" || d.Caller != caller || d.User != "alice" || d.Issuer != issuerURL || d.Source != "127.0.0.1" || d.Rule != "default" {
		t.Errorf("%+v", d)
	}
	if e := got[1]; e.Kind != audit.KindEnd || e.Code != "ok" || e.Status != http.StatusTeapot || e.Up != 5 || e.Down != 15 || e.Tunnel != "secured" {
		t.Errorf("%+v", e)
	}
	res, _ = r.do(r.request("GET", "secured", "/", nil))
	if d := b.of(t, res.Header.Get("Fairlead-Call-Id"), 1)[0]; d.Decision != audit.Deny || d.Code != "token_missing" || d.Rule != "token" {
		t.Errorf("%+v", d)
	}
	res, _ = r.do(r.request("GET", "nowhere", "/", nil))
	if d := b.of(t, res.Header.Get("Fairlead-Call-Id"), 1)[0]; d.Decision != audit.Deny || d.Code != "unknown_tunnel" || d.Caller != caller || d.Host != "nowhere.dc1.example" {
		t.Errorf("%+v", d)
	}
	req = r.request("GET", "secured", "/", nil)
	req.Header.Set("Upgrade", "h2c")
	req.Header.Set("Connection", "upgrade")
	res, _ = r.do(req)
	if d := b.of(t, res.Header.Get("Fairlead-Call-Id"), 1)[0]; d.Decision != audit.Deny || d.Code != "upgrade_refused" || d.Rule != "request" {
		t.Errorf("%+v", d)
	}
	for _, rec := range b.records {
		if s := strings.Join([]string{rec.Path, rec.Reason, rec.User, rec.Host}, " "); strings.Contains(s, "secret") || strings.Contains(s, "canary") || strings.Contains(s, goodToken) {
			t.Errorf("a credential is in %+v", rec)
		}
	}
}

// O09
func TestACallThatMustBeRecordedIsRefusedWhereItCannotBe(t *testing.T) {
	r, b := newBook(t)
	reached := 0
	r.backend(func(http.ResponseWriter, *http.Request) { reached++ })
	b.fill()
	res, body := r.do(r.request("GET", "orders", "/", nil))
	r.wantProblem(res, body, http.StatusServiceUnavailable, protocol.AuditUnavailable)
	if res.Header.Get("Retry-After") == "" || reached != 0 {
		t.Errorf("Retry-After %q, the backend was reached %d times", res.Header.Get("Retry-After"), reached)
	}
	if res, body := r.do(r.request("GET", "nowhere", "/", nil)); res.StatusCode != http.StatusNotFound { // a refusal needs no record
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, body := r.do(r.request("GET", "small", "/", nil)); res.StatusCode != http.StatusOK { // where it is best effort
		t.Errorf("got %d %s", res.StatusCode, body)
	}
}
