//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/servers"
)

// record is what these tests read of a line of an audit.
type record struct {
	Kind     string `json:"kind"`
	CallID   string `json:"call_id"`
	Tunnel   string `json:"tunnel"`
	Path     string `json:"path"`
	Caller   string `json:"caller"`
	User     string `json:"user"`
	Decision string `json:"decision"`
	Rule     string `json:"rule"`
	Code     string `json:"code"`
	Peer     string `json:"peer"`
	Status   int    `json:"status"`
}

// records are the records of a call in an audit, once there are n of them.
func records(t *testing.T, file, call string, n int) []record {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var found []record
		for line := range bytes.Lines(b) {
			var r record
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%s: %s: %v", file, line, err)
			}
			if r.CallID == call {
				found = append(found, r)
			}
		}
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %d records of call %s, expected %d:\n%s", file, len(found), call, n, b)
		}
	}
}

// says is a condition of the program's metrics: a line of theirs.
func (p *program) says(line string) func(context.Context) error {
	return func(ctx context.Context) error {
		metrics, err := p.get(ctx, "/metrics")
		if err == nil && !strings.Contains(metrics, line) {
			err = fmt.Errorf("no %q in its metrics", line)
		}
		return err
	}
}

func TestACallIsDecidedTwiceAndRecordedTwiceUnderOneID(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	orders := ordersTunnel(api)
	orders.agent += "\naudit: required"
	orders.relay += "\naudit: required"
	s := startSite(t, options{relay: "audit: {file: relay.jsonl}", agent: "audit: {file: agent.jsonl}"}, orders)
	relayLog, agentLog := s.file("relay.jsonl"), s.file("agent.jsonl")
	c := s.caller(t, nil, billingID, h2)
	good := c.must(t, 200, call{tunnel: "orders", path: "/v1/orders?secret=canary"})
	id := good.Header.Get("Fairlead-Call-Id")
	r, a := records(t, relayLog, id, 2), records(t, agentLog, id, 2)
	for who, both := range map[string][]record{"relay": r, "agent": a} {
		if d, e := both[0], both[1]; d.Decision != "allow" || d.Caller != billingID || d.User == "" || d.Tunnel != "orders" || d.Path != "/v1/orders" || e.Kind != "end" || e.Status != 200 || e.Code != "ok" {
			t.Errorf("%s: %+v", who, both)
		}
	}
	if a[0].Peer != relayID {
		t.Errorf("the agent's record is of relay %q", a[0].Peer)
	}
	denied := c.must(t, 403, call{tunnel: "orders", path: "/admin"})
	id = denied.Header.Get("Fairlead-Call-Id")
	if d := records(t, agentLog, id, 1)[0]; d.Decision != "deny" || d.Code != "agent_denied" {
		t.Errorf("agent: %+v", d)
	}
	if both := records(t, relayLog, id, 2); both[0].Decision != "allow" || both[1].Code != "agent_denied" {
		t.Errorf("relay: %+v", both)
	}
	refused := c.must(t, 401, call{tunnel: "orders", path: "/v1/orders", noToken: true})
	id = refused.Header.Get("Fairlead-Call-Id")
	if d := records(t, relayLog, id, 1)[0]; d.Decision != "deny" || d.Rule != "token" || d.Code != "token_missing" {
		t.Errorf("relay: %+v", d)
	}
	if past := s.relay.command(t, "explain", "--call", id, relayLog); !strings.Contains(past, "DENY  token") {
		t.Errorf("explain --call says\n%s", past)
	}
	s.agent.stop(t)
	s.relay.stop(t) // the last checkpoint
	for file, bundle := range map[string]string{relayLog: "cloud.example=" + s.file("cloud.pem"), agentLog: "dc1.example=" + s.file("dc1.pem")} {
		if said := s.relay.command(t, "audit", "verify", "--bundle", bundle, file); !strings.HasPrefix(said, "good: ") || strings.Contains(said, "no checkpoint") {
			t.Errorf("audit verify says\n%s", said)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("canary")) || bytes.Contains(b, []byte("Bearer")) {
			t.Errorf("%s holds what no audit may:\n%s", file, b)
		}
		altered := filepath.Join(t.TempDir(), "altered.jsonl")
		if err := os.WriteFile(altered, bytes.Replace(b, []byte(billingID), []byte("spiffe://cloud.example/api/somebody"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if said := s.relay.fails(t, "audit", "verify", "--bundle", bundle, altered); !strings.Contains(said, "it was altered") {
			t.Errorf("audit verify says of an altered line\n%s", said)
		}
		if said := s.relay.fails(t, "audit", "verify", "--bundle", "dc1.example="+s.file("cloud.pem"), file); !strings.Contains(said, "checkpoint") {
			t.Errorf("audit verify says under another bundle\n%s", said)
		}
	}
	// What would another configuration have decided?
	next := s.file("next.yaml")
	text, err := os.ReadFile(s.relay.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(next, bytes.ReplaceAll(text, []byte("[spiffe://cloud.example/api/*]"), []byte("[spiffe://cloud.example/api/shop]")), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := s.relay.command(t, "explain", "-c", next, "--replay", relayLog); !strings.Contains(said, "was ok (allow), now caller_denied (callers)") || !strings.Contains(said, "3 calls, 2 decided otherwise; of 0") {
		t.Errorf("explain --replay says\n%s", said)
	}
	if said := s.relay.command(t, "explain", "-c", s.relay.config, "--replay", relayLog); !strings.Contains(said, "3 calls, 0 decided otherwise") {
		t.Errorf("explain --replay by the same file says\n%s", said)
	}
}

func TestExplainSaysWhichRuleDecides(t *testing.T) {
	s, _ := startOrders(t, options{})
	token := s.tokenFile(t, "orders.use")
	ask := []string{"--tunnel", "orders", "--method", "POST", "--path", "/v1/orders/7", "--caller", billingID, "--token-file", token}
	live, offline := []string{"explain", "--control", s.file("relay.sock")}, []string{"explain", "-c", s.relay.config}
	for name, how := range map[string][]string{"running": live, "offline": offline} {
		with := func(more ...string) []string { return append(append([]string{}, how...), more...) }
		for _, step := range []string{"pass  svid", "pass  tunnel", "pass  callers       spiffe://cloud.example/api/*", "for user", "DENY  allow", "denied by configuration"} {
			if said := s.relay.fails(t, with(ask...)...); !strings.Contains(said, step) {
				t.Errorf("%s: no %q in\n%s", name, step, said)
			}
		}
		if said := s.relay.command(t, with("--tunnel", "orders", "--path", "/v1/orders/7", "--caller", billingID, "--token-file", token)...); !strings.Contains(said, "allowed by configuration") {
			t.Errorf("%s: %s", name, said)
		}
		if said := s.relay.fails(t, with("--host", "orders.dc1.example", "--caller", guestID)...); !strings.Contains(said, "DENY  callers") {
			t.Errorf("%s: %s", name, said)
		}
		if said := s.relay.fails(t, with("--tunnel", "orders", "--caller", billingID)...); !strings.Contains(said, "DENY  token") {
			t.Errorf("%s: %s", name, said)
		}
	}
}

// A relay that was taken over lets everybody in; it holds its own keys, and nobody's token.
func TestARelayThatLetsEverybodyInReachesOnlyWhatTheAgentsFileAllows(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	backend := "http://" + api.Addr.String()
	open := func(name, agent string) tunnel {
		return tunnel{name: name, backend: backend, callers: "any", token: "none", agent: agent}
	}
	s := startSite(t, options{agent: "tokens: [{issuer: " + issuerURL + ", audiences: [fairlead], jwks: idp.jwks.json}]"},
		open("free", ""),
		open("pathed", "allow: {methods: [GET], paths: [/v1/orders]}"),
		open("called", "callers: ["+billingID+"]"),
		open("tokened", "token: {issuer: "+issuerURL+", scopes: [orders.use]}"),
		tunnel{name: "both", backend: backend, callers: "any", token: "{issuer: " + issuerURL + "}", agent: "token: {issuer: " + issuerURL + ", scopes: [orders.use]}"},
	)
	nobody, billing := s.caller(t, nil, "", h2), s.caller(t, nil, billingID, h1)
	nobody.must(t, 200, call{tunnel: "free", path: "/v1/orders", noToken: true})
	for name, k := range map[string]call{
		"another path": {tunnel: "pathed", path: "/admin", noToken: true}, "another method": {tunnel: "pathed", method: "POST", path: "/v1/orders", noToken: true},
		"nobody": {tunnel: "called", path: "/v1/orders", noToken: true}, "no token": {tunnel: "tokened", path: "/v1/orders", noToken: true},
		"a tunnel whose token the relay does not pass on": {tunnel: "tokened", path: "/v1/orders"},
		"no scope": {tunnel: "both", path: "/v1/orders", token: s.token(t, "else")},
	} {
		if a := nobody.must(t, 403, k); a.code() != "agent_denied" {
			t.Errorf("%s: got %s", name, a.body)
		}
	}
	nobody.must(t, 200, call{tunnel: "pathed", path: "/v1/orders", noToken: true})
	billing.must(t, 200, call{tunnel: "called", path: "/v1/orders", noToken: true})
	nobody.must(t, 200, call{tunnel: "both", path: "/v1/orders", token: s.token(t, "orders.use")})
}

// O09
func TestAFullDiskStopsWhatMustBeRecorded(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	strict, loose := ordersTunnel(api), ordersTunnel(api)
	strict.relay += "\naudit: required"
	loose.name = "loose"
	loose.relay = ""
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Fatalf("mounting a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", disk).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	log := filepath.Join(disk, "relay.jsonl")
	s := startSite(t, options{relay: "audit: {file: " + log + "}"}, strict, loose)
	c := s.caller(t, nil, billingID, h1)
	c.must(t, 200, call{tunnel: "orders", path: "/v1/orders"})
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not small")
	}
	var refused answer
	for range 100 { // the last page may have room for some lines yet
		a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"})
		if err != nil {
			t.Fatal(err)
		}
		if refused = a; a.StatusCode != 200 {
			break
		}
	}
	if refused.StatusCode != http.StatusServiceUnavailable || refused.code() != "audit_unavailable" || refused.Header.Get("Retry-After") == "" {
		t.Fatalf("got %d %s", refused.StatusCode, refused.body)
	}
	c.must(t, 200, call{tunnel: "loose", path: "/v1/orders"})
	s.relay.Ready(t, "say so in its metrics", s.relay.says("fairlead_relay_audit_failing 1"))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.must(t, 200, call{tunnel: "orders", path: "/v1/orders"})
	s.relay.Ready(t, "say so in its metrics", s.relay.says("fairlead_relay_audit_failing 0"))
	s.relay.stop(t)
	if said := s.relay.command(t, "audit", "verify", log); !strings.HasPrefix(said, "good: ") { // and no part of a line
		t.Errorf("audit verify says\n%s", said)
	}
}

func TestAQuotaIsToldAndARetryThatWaitsPasses(t *testing.T) {
	t.Parallel()
	api := servers.StartOrders(t, new(servers.Loopback))
	orders := ordersTunnel(api)
	orders.relay += "\nlimits: {rate: 1, burst: 2, per: user}"
	s := startSite(t, options{}, orders)
	for _, v := range []version{h1, h2, h3} {
		c := s.caller(t, nil, billingID, v)
		token := s.mint(t, map[string]any{"scope": "orders.use", "sub": "user of " + v.String()})
		k := call{tunnel: "orders", path: "/v1/orders", token: token}
		for _, left := range []string{"1", "0"} {
			if a := c.must(t, 200, k); !strings.HasPrefix(a.Header.Get("RateLimit"), `"default";r=`+left+";t=") {
				t.Errorf("%s: RateLimit %q", v, a.Header.Get("RateLimit"))
			}
		}
		a := c.must(t, 429, k)
		if a.code() != "rate_limited" || a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %s, Retry-After %q", v, a.body, a.Header.Get("Retry-After"))
		}
		time.Sleep(1100 * time.Millisecond)
		c.must(t, 200, k)
	}
}

func TestAnAppsSecretsChangeWithoutAGap(t *testing.T) {
	api := servers.StartOrders(t, new(servers.Loopback))
	orders := ordersTunnel(api)
	orders.proofs, orders.relay, orders.callers = "{app: {}}", "", "any"
	s := newSite(t, options{relay: "apps: [{id: shop, tunnels: [orders], secrets: [OLD]}]"}, orders)
	secret := func() (secret, hash string) {
		said := s.relay.command(t, "app", "secret")
		lines := strings.Split(strings.TrimSpace(said), "\n")
		secret, hash = lines[0][strings.LastIndexByte(lines[0], ' ')+1:], lines[1][strings.Index(lines[1], "sha256:"):]
		s.secret(secret)
		return secret, hash
	}
	old, oldHash := secret()
	next, nextHash := secret()
	s.relay.edit(t, "secrets: [OLD]", "secrets: ["+oldHash+"]")
	s.start(t)
	c := s.caller(t, nil, "", h2)
	with := func(secret string) call {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("shop", secret)
		return call{tunnel: "orders", path: "/v1/orders", noToken: true, header: r.Header}
	}
	c.must(t, 200, with(old))
	if a := c.must(t, 401, with(next)); a.code() != "credentials_invalid" || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("got %s, %q", a.body, a.Header.Get("WWW-Authenticate"))
	}
	reload := func(from, to string) {
		s.relay.edit(t, from, to)
		s.relay.command(t, "reload", "--control", s.file("relay.sock"), "-c", s.relay.config)
	}
	reload("secrets: ["+oldHash+"]", "secrets: ["+oldHash+", "+nextHash+"]")
	c.must(t, 200, with(old))
	c.must(t, 200, with(next))
	reload(oldHash+", ", "")
	c.must(t, 401, with(old))
	c.must(t, 200, with(next))
}
