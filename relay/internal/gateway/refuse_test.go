package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

func TestEveryRefusalSaysOneWordInAnswerLogAndMetric(t *testing.T) {
	r := newRig(t, nil)
	r.backend(func(w http.ResponseWriter, _ *http.Request) {})
	token := func(value string) func(*http.Request) {
		return func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+value) }
	}
	for i, c := range []struct {
		name, caller, method, tunnel, path string
		change                             func(*http.Request)
		status                             int
		code                               protocol.Code
	}{
		{"no SVID", "", "GET", "orders", "/", nil, 403, protocol.CallerUnknown},
		{"wrong caller", "spiffe://cloud.example/batch/x", "GET", "orders", "/", nil, 403, protocol.CallerDenied},
		{"no such host", caller, "GET", "nowhere", "/", nil, 404, protocol.UnknownTunnel},
		{"tcp tunnel", caller, "GET", "ledger", "/", nil, 405, protocol.MethodNotAllowed},
		{"no token", caller, "GET", "secured", "/", nil, 401, protocol.TokenMissing},
		{"bad token", caller, "GET", "secured", "/", token("bad"), 401, protocol.TokenInvalid},
		{"scope", caller, "GET", "scoped", "/", token(goodToken), 403, protocol.ScopeMissing},
		{"h2c", caller, "GET", "orders", "/", func(q *http.Request) {
			q.Header.Set("Connection", "Upgrade, HTTP2-Settings")
			q.Header.Set("Upgrade", "h2c")
		}, 501, protocol.UpgradeRefused}, // W05
		{"two upgrades", caller, "GET", "orders", "/", func(q *http.Request) {
			q.Header.Set("Connection", "Upgrade")
			q.Header["Upgrade"] = []string{"websocket, h2c"}
		}, 501, protocol.UpgradeRefused},
		{"one long header", caller, "GET", "orders", "/", func(q *http.Request) { q.Header.Set("A", strings.Repeat("x", 8<<10)) }, 431, protocol.HeadersTooLarge},
		{"many headers", caller, "GET", "orders", "/", func(q *http.Request) { q.Header["Cookie"] = make([]string, 101) }, 431, protocol.HeadersTooLarge},
		{"long path", caller, "GET", "orders", "/" + strings.Repeat("x", 9000), nil, 431, protocol.HeadersTooLarge},
		{"two paths", caller, "GET", "orders", "/a/%2e%2e/b", nil, 400, protocol.BadRequest},
		{"announced body", caller, "POST", "small", "/", func(q *http.Request) {
			q.Body, q.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 1001))), 1001
		}, 413, protocol.BodyTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := r.request(c.method, c.tunnel, c.path, nil)
			if c.change != nil {
				c.change(req)
			}
			res, body := do(t, r.client(c.caller, false), req)
			if p := r.wantProblem(res, body, c.status, c.code); p.Sent != "no" {
				t.Errorf("sent=%s, expected no", p.Sent)
			}
			if got := r.recorded(i + 1)[i]; got.Code != c.code || got.Network != protocol.HTTP {
				t.Errorf("record %+v, expected code %v", got, c.code)
			}
		})
	}
	if strings.Contains(r.log.String(), goodToken) {
		t.Error("the token is in the log")
	}
}

func TestTokenRefusalsSayWhatIsWanted(t *testing.T) { // J01, J15
	r := newRig(t, nil)
	for _, c := range []struct{ tunnel, token, want string }{
		{"secured", "", `Bearer realm="fairlead"`},
		{"secured", "bad", `Bearer realm="fairlead", error="invalid_token"`},
		{"scoped", goodToken, `Bearer realm="fairlead", error="insufficient_scope", scope="orders.write"`},
	} {
		req := r.request("GET", c.tunnel, "/", nil)
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		res, _ := r.do(req)
		if got := res.Header.Get("WWW-Authenticate"); got != c.want {
			t.Errorf("%s with %q: WWW-Authenticate %q, expected %q", c.tunnel, c.token, got, c.want)
		}
	}
}

func TestARealAndAnUnknownHostLookAlikeWithoutAnSVID(t *testing.T) { // R08
	r := newRig(t, nil)
	r.backend(func(http.ResponseWriter, *http.Request) {})
	ids := regexp.MustCompile(`[a-z2-7]{26}`)
	answer := func(tunnel, method, path string) string {
		res, body := do(t, r.client("", false), r.request(method, tunnel, path, nil))
		var all strings.Builder
		if err := res.Header.Write(&all); err != nil {
			t.Fatal(err)
		}
		all.WriteString(res.Status + body)
		return ids.ReplaceAllString(regexp.MustCompile(`Date: .*`).ReplaceAllString(all.String(), ""), "ID")
	}
	for _, method := range []string{"GET", "POST", "HEAD", "DELETE"} {
		want := answer("nowhere", method, "/x")
		for _, tunnel := range []string{"orders", "secured", "scoped", "ledger", "small"} {
			if got := answer(tunnel, method, "/x"); got != want {
				t.Errorf("%s %s answers\n%s\nand an unknown host\n%s", method, tunnel, got, want)
			}
		}
	}
	if r.proved != 0 {
		t.Error("a stranger counts as proved")
	}
}

func TestWhatTheAgentRefusesReachesTheCaller(t *testing.T) {
	for _, c := range []struct {
		code   protocol.Code
		sent   bool
		status int
		said   protocol.Code
	}{
		{protocol.AgentDenied, false, 403, protocol.AgentDenied},
		{protocol.BackendUnreachable, false, 502, protocol.BackendUnreachable},
		{protocol.BackendTLS, false, 502, protocol.BackendTLS},
		{protocol.BackendTimeout, true, 504, protocol.BackendTimeout},
		{protocol.Draining, false, 503, protocol.Draining},
		{protocol.DuplicateAgent, true, 500, protocol.Internal}, // not for callers
		{protocol.Code(9999), false, 500, protocol.Internal},
	} {
		r := newRig(t, nil)
		r.serve(routetest.Refuser(c.code, c.sent))
		res, body := r.do(r.request("GET", "orders", "/", nil))
		p := r.wantProblem(res, body, c.status, c.said)
		if want := map[bool]string{true: "maybe", false: "no"}[c.sent]; p.Sent != want {
			t.Errorf("%v: sent=%s, expected %s", c.code, p.Sent, want)
		}
		if retry := res.Header.Get("Retry-After") != ""; retry != (c.status == 503) {
			t.Errorf("%v: Retry-After is there: %v", c.code, retry)
		}
	}
}

func TestARefusalDoesNotWaitForACallerWhoIsSilent(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		r.serve(routetest.Refuser(protocol.AgentDenied, false))
		silent, writer := io.Pipe()
		time.AfterFunc(2*time.Second, func() { writer.Close() }) // so that a failure is no hang
		began := time.Now()
		res, err := r.client(caller, h2).Do(r.request("POST", "orders", "/", silent))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("h2 %v: the answer took %v", h2, took)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		r.wantProblem(res, string(body), 403, protocol.AgentDenied)
		writer.Close()
	}
}

func TestNoAgentIs503(t *testing.T) { // H11
	r := newRig(t, nil)
	res, body := r.do(r.request("GET", "orders", "/", nil))
	r.wantProblem(res, body, 503, protocol.NoAgent)
}

func TestDrainingRelayTakesNoNewCalls(t *testing.T) {
	r := newRig(t, nil)
	r.backend(func(http.ResponseWriter, *http.Request) {})
	r.Drain()
	res, body := r.do(r.request("GET", "orders", "/", nil))
	r.wantProblem(res, body, 503, protocol.Draining)
}

func TestATunnelRunsNoMoreCallsThanItMay(t *testing.T) { // R14
	r := newRig(t, nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	r.backend(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-leave
	})
	first := make(chan *http.Response)
	go func() {
		res, err := r.client(caller, false).Do(r.request("GET", "narrow", "/", nil))
		if err != nil {
			t.Error(err)
		}
		first <- res
	}()
	<-inside
	res, body := r.do(r.request("GET", "narrow", "/", nil))
	r.wantProblem(res, body, 503, protocol.Overloaded)
	close(leave)
	res = <-first
	res.Body.Close()
	r.recorded(2)
	go func() { <-inside }()
	if res, _ := r.do(r.request("GET", "narrow", "/", nil)); res.StatusCode != 200 {
		t.Errorf("status %d after the first call ended, expected 200", res.StatusCode)
	}
}

func TestABodyThatStreamsBeyondItsLimitIs413(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		r.backend(func(w http.ResponseWriter, q *http.Request) {
			if _, err := io.Copy(io.Discard, q.Body); err == nil {
				t.Error("the backend got a whole body")
			}
		})
		req := r.request("POST", "small", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", 900)), strings.NewReader(strings.Repeat("x", 900))))
		res, body := do(t, r.client(caller, h2), req)
		r.wantProblem(res, body, 413, protocol.BodyTooLarge)
	}
}

func TestABackendThatBreaksTheProtocolIs502(t *testing.T) { // W06
	r := newRig(t, nil)
	agent := r.backend(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = conn.Close()
	})
	res, body := r.do(r.request("GET", "orders", "/", nil))
	r.wantProblem(res, body, 502, protocol.BackendProtocol)
	r.recorded(1)
	if n := agent.Link.Calls(); n != 0 {
		t.Errorf("%d streams are still held", n)
	}
}

func TestASlowAnnouncedBodyIsCut(t *testing.T) { // W09
	r := newRig(t, nil)
	r.backend(func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(io.Discard, q.Body) })
	conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), r.tlsConfig(caller))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: orders.dc1.example\r\nContent-Length: 1000000\r\n\r\na")
	began := time.Now()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.wantProblem(res, string(body), 408, protocol.RequestTimeout)
	if took := time.Since(began); took < 500*time.Millisecond || took > 5*time.Second {
		t.Errorf("cut after %v, expected 500 ms", took)
	}
}
