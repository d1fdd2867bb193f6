package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
)

// desk is an issuer's introspection endpoint.
type desk struct {
	*httptest.Server
	asked  atomic.Int64
	answer func(token string) map[string]any
	status atomic.Int64
	v      *bearer.Verifier
}

const opaqueIssuer = "https://idp.example"

func newIntrospection(t *testing.T, cache time.Duration) *desk {
	t.Helper()
	d := new(desk)
	d.status.Store(http.StatusOK)
	d.answer = func(string) map[string]any { return good(nil) }
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		if id, secret, ok := r.BasicAuth(); !ok || id != "fairlead" || secret != "s%26cret" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(int(d.status.Load()))
		_ = json.NewEncoder(w).Encode(d.answer(r.PostFormValue("token")))
	}))
	t.Cleanup(d.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s&cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	d.v, err = bearer.New(bearer.Config{Issuers: []bearer.Issuer{{URL: opaqueIssuer, Audiences: []string{"fairlead"},
		Introspection: &bearer.Introspection{URL: d.URL, ClientID: "fairlead", SecretFile: secret, Cache: cache}}}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// good is the answer about a good token, changed by change.
func good(change map[string]any) map[string]any {
	answer := map[string]any{"active": true, "sub": "ada", "aud": "fairlead", "scope": "orders.read", "exp": time.Now().Add(time.Hour).Unix(), "client_id": "shop"}
	for name, value := range change {
		if answer[name] = value; value == nil {
			delete(answer, name)
		}
	}
	return answer
}

func (d *desk) verify(raw string) (*bearer.Token, error) {
	return d.v.VerifyFrom(context.Background(), opaqueIssuer, raw)
}

func TestAnOpaqueTokenMeansWhatItsIssuerSays(t *testing.T) {
	d := newIntrospection(t, time.Minute)
	token, err := d.verify("opaque")
	if err != nil || token.Subject != "ada" || token.Issuer != opaqueIssuer || len(token.Scopes) != 1 || token.Claims["client_id"] != "shop" {
		t.Fatalf("got %+v, %v", token, err)
	}
	again, err := d.verify("opaque")
	if err != nil || again != token || d.asked.Load() != 1 {
		t.Errorf("asked %d times, %v", d.asked.Load(), err)
	}
	if _, err := d.v.VerifyFrom(t.Context(), "https://other.example", "opaque"); !errors.Is(err, bearer.ErrUnavailable) {
		t.Errorf("of an issuer that is not configured: %v", err)
	}
	if err := d.v.Ready(); err != nil {
		t.Error(err)
	}
}

func TestWhatDoesNotHoldIsRefusedAndNotAskedAgainAtOnce(t *testing.T) {
	d := newIntrospection(t, time.Minute)
	cases := map[string]map[string]any{
		"inactive":         {"active": false},
		"active in words":  {"active": "true"},
		"another issuer's": {"iss": "https://other.example"},
		"for others":       {"aud": "elsewhere"},
		"for nobody":       {"aud": nil},
		"expired":          {"exp": time.Now().Add(-time.Minute).Unix()},
		"without an end":   {"exp": nil},
		"not valid yet":    {"nbf": time.Now().Add(time.Hour).Unix()},
		"nobody's":         {"sub": nil},
	}
	d.answer = func(token string) map[string]any { return good(cases[token]) }
	for name := range cases {
		before := d.asked.Load()
		for range 3 {
			if token, err := d.verify(name); !invalid(err, bearer.ReasonInactive) {
				t.Errorf("%s: got %+v, %v", name, token, err)
			}
		}
		if n := d.asked.Load() - before; n != 1 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
}

func TestAnIssuerThatCannotBeAskedLetsNobodyIn(t *testing.T) {
	d := newIntrospection(t, 20*time.Millisecond)
	d.status.Store(http.StatusInternalServerError)
	if token, err := d.verify("a"); !errors.Is(err, bearer.ErrUnavailable) {
		t.Errorf("got %+v, %v", token, err)
	}
	d.status.Store(http.StatusOK)
	if _, err := d.verify("a"); err != nil { // a failure is not remembered
		t.Error(err)
	}
	d.Close()
	time.Sleep(25 * time.Millisecond)
	if token, err := d.verify("a"); !errors.Is(err, bearer.ErrUnavailable) { // nor is the answer, beyond its time
		t.Errorf("got %+v, %v", token, err)
	}
	if err := func() error { _, err := d.verify("secret-canary"); return err }(); strings.Contains(err.Error(), "canary") {
		t.Error("the error has the token:", err)
	}
}

func TestManyCallsOfOneTokenAskOnce(t *testing.T) {
	d := newIntrospection(t, time.Minute)
	release := make(chan struct{})
	d.answer = func(string) map[string]any { <-release; return good(nil) }
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			if _, err := d.verify("a"); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	close(release)
	calls.Wait()
	if n := d.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func invalid(err error, reason bearer.Reason) bool {
	e, ok := errors.AsType[*bearer.InvalidError](err)
	return ok && e.Reason == reason
}
