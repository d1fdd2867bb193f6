//go:build linux

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/servers"
)

// startOrders starts a site in front of the orders API, of which the agent shows /v1/orders alone.
func startOrders(t *testing.T, o options) (*site, *servers.Orders) {
	t.Helper()
	if o.dc == nil {
		o.cloud, o.dc = new(servers.Loopback), new(servers.Loopback)
	}
	api := servers.StartOrders(t, o.dc)
	return startSite(t, o, ordersTunnel(api)), api
}

func ordersTunnel(api *servers.Orders) tunnel {
	return tunnel{
		name: "orders", backend: "http://" + api.Addr.String(),
		relay: `allow: request.method == "GET" || "orders.write" in token.scopes`,
		agent: `allow: {methods: [GET, POST], paths: [/v1/orders, "/v1/orders/**"]}`,
	}
}

// TestRefusalIsOneWordEverywhere covers the order of decisions and that the answer, the log and the metrics agree.
func TestRefusalIsOneWordEverywhere(t *testing.T) {
	s, api := startOrders(t, options{})
	stranger := s.mint(t, map[string]any{"scope": "orders.use", "aud": "elsewhere"})
	expired := s.mint(t, map[string]any{"scope": "orders.use", "exp": time.Now().Add(-time.Hour).Unix()})
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + stranger[strings.IndexByte(stranger, '.'):strings.LastIndexByte(stranger, '.')+1]
	for name, refusal := range map[string]struct {
		id     string
		call   call
		status int
		code   string
	}{
		"no token":        {billingID, call{noToken: true}, 401, "token_missing"},
		"other audience":  {billingID, call{token: stranger}, 401, "token_invalid"},
		"expired token":   {billingID, call{token: expired}, 401, "token_invalid"},
		"not a token":     {billingID, call{token: "x.y.z"}, 401, "token_invalid"},
		"alg none":        {billingID, call{token: unsigned}, 401, "token_invalid"},
		"16 KiB token":    {billingID, call{token: strings.Repeat("x", 16<<10)}, 431, "headers_too_large"},
		"no scope":        {billingID, call{token: s.token(t, "else")}, 403, "scope_missing"},
		"no SVID":         {"", call{}, 403, "caller_unknown"},
		"other caller":    {guestID, call{}, 403, "caller_denied"},
		"policy":          {billingID, call{method: "POST", body: strings.NewReader("{}")}, 403, "denied"},
		"unknown tunnel":  {billingID, call{tunnel: "nowhere"}, 404, "unknown_tunnel"},
		"agent's own no":  {billingID, call{path: "/admin/secret"}, 403, "agent_denied"},
		"dressed-up path": {billingID, call{path: "/v1/orders/%2e%2e/%2e%2e/admin/secret"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := refusal.call
			k.tunnel, k.path = or(k.tunnel, "orders"), or(k.path, "/v1/orders")
			a, err := s.caller(t, nil, refusal.id, h1).do(t, k)
			if err != nil {
				t.Fatal(err)
			}
			if refusal.code == "" { // refused by either half, with whatever word
				if a.StatusCode < 400 || a.code() == "" {
					t.Errorf("got %d %s, want a refusal", a.StatusCode, a.body)
				}
				return
			}
			if a.StatusCode != refusal.status || a.code() != refusal.code {
				t.Errorf("got %d %s, want %d %s", a.StatusCode, a.body, refusal.status, refusal.code)
			}
			if !strings.Contains(a.Header.Get("Proxy-Status"), refusal.code) {
				t.Errorf("Proxy-Status is %q", a.Header.Get("Proxy-Status"))
			}
			if refusal.status == 401 && !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate is %q", a.Header.Get("WWW-Authenticate"))
			}
			s.logged(t, s.relay, a)
			if refusal.code == "agent_denied" {
				s.logged(t, s.agent, a)
			}
			s.counted(t, refusal.code)
		})
	}
	if strings.Contains(api.Log().String(), "/admin") {
		t.Errorf("the backend was asked for what the agent refuses:\n%s", api.Log())
	}
}

// logged checks that a program's log has one line with the call's id, and the code.
func (s *site) logged(t *testing.T, p *program, a answer) {
	t.Helper()
	var problem struct {
		CallID string `json:"call_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil || problem.CallID == "" {
		t.Fatalf("the problem document has no call_id: %s", a.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Find(ctx, regexp.MustCompile(problem.CallID)); err != nil {
		t.Fatal(err)
	}
	var lines []string
	within(t, 20*time.Second, p.name+" logs call "+problem.CallID, func(context.Context) error {
		lines = nil
		for line := range strings.SplitSeq(p.Log().String(), "\n") {
			if strings.Contains(line, problem.CallID) {
				lines = append(lines, line)
			}
		}
		if len(lines) == 0 {
			return errNotYet // it is written when the call has ended, which is after its answer
		}
		return nil
	})
	if len(lines) != 1 || !strings.Contains(lines[0], a.code()) {
		t.Errorf("%s logged call %s as %q; expected one line with %s", p.name, problem.CallID, lines, a.code())
	}
}

// counted checks that the relay's metrics count a refusal with the code.
func (s *site) counted(t *testing.T, code string) {
	t.Helper()
	counter := regexp.MustCompile(`(?m)^fairlead_\w+\{[^}]*code="` + code + `"[^}]*\} [1-9]`)
	within(t, 20*time.Second, "a metric counts "+code, func(ctx context.Context) error {
		metrics, err := s.relay.get(ctx, "/metrics")
		if err == nil && !counter.MatchString(metrics) {
			err = errNotYet
		}
		return err
	})
}

// What net/http itself refuses while it parses is plain text; nothing may break, and nobody else may notice.
func TestMegabyteTokenIsRefusedAndOthersAreServed(t *testing.T) {
	s, _ := startOrders(t, options{})
	huge := strings.Repeat("x", 1<<20)
	for _, v := range []version{h1, h2} {
		a, err := s.caller(t, nil, billingID, v).do(t, call{tunnel: "orders", path: "/v1/orders", token: huge})
		if err == nil && a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%v: got %d, want 431 or a closed connection", v, a.StatusCode)
		}
		s.caller(t, nil, billingID, v).must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	}
}

func TestKnownAndUnknownHostsLookAlikeToStrangers(t *testing.T) {
	s, _ := startOrders(t, options{})
	c := s.caller(t, nil, "", h1)
	callID := regexp.MustCompile(`"call_id":"[^"]*"`)
	var seen []string
	for _, name := range []string{"orders", "nowhere"} {
		a := c.must(t, http.StatusForbidden, call{tunnel: name, path: "/v1/orders"})
		seen = append(seen, callID.ReplaceAllString(a.body, ""))
	}
	if seen[0] != seen[1] {
		t.Errorf("a stranger sees %s for a tunnel, and %s for none", seen[0], seen[1])
	}
}

func TestBackendLearnsWhoCallsAndNotTheToken(t *testing.T) {
	s, api := startOrders(t, options{})
	s.caller(t, nil, billingID, h2).must(t, http.StatusOK, call{
		tunnel: "orders", path: "/v1/orders",
		header: http.Header{"Fairlead-Caller": {"spiffe://cloud.example/api/forged"}},
	})
	want := `GET "/v1/orders" 200 caller="` + billingID + `"`
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := api.Find(ctx, regexp.MustCompile(regexp.QuoteMeta(want))); err != nil {
		t.Errorf("%v; it printed %q", err, api.Log())
	}
}

func TestRefusalDoesNotWaitForTheCallersBody(t *testing.T) {
	s, _ := startOrders(t, options{})
	for _, v := range []version{h1, h2, h3} {
		t.Run(v.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			body, never := io.Pipe() // nothing is ever written
			defer never.Close()
			// A caller's own net/http waits for its body too, before it reports a time-out.
			defer context.AfterFunc(ctx, func() { never.CloseWithError(ctx.Err()) })()
			c := s.caller(t, nil, billingID, v)
			response, err := c.Do(c.request(ctx, t, call{
				method: http.MethodPost, tunnel: "orders", path: "/admin/secret", body: body,
				token: s.token(t, "orders.use", "orders.write"),
			}))
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusForbidden {
				t.Errorf("got %s (%v), want 403", response.Status, err)
			}
		})
	}
}
