//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// issued is a site whose halves have their identities from the built-in authority of dc1.example; callers keep theirs.
type issued struct {
	*site
	authority *process.Process
}

const (
	issuedRelayID = "spiffe://dc1.example/relay/a"
	issuedAgentID = "spiffe://dc1.example/agent/a"
)

// withAuthority makes an authority and starts it; its SVIDs live for life. Both halves are enrolled before their first start.
func withAuthority(t *testing.T, life time.Duration, o options, tunnels ...tunnel) *issued {
	t.Helper()
	s := &issued{site: newSite(t, o, tunnels...)}
	s.relay.edit(t, "identity: {svid: {cert: relay.crt, key: relay.key}}", "identity: {enrolled: relay-id}\n"+
		"authority: {socket: authority.sock, bundle_host: trust.dc1.example}\nserver_certificate: {cert: relay.crt, key: relay.key}")
	s.relay.edit(t, "  dc1.example: {bundle: dc1.pem}\n", "")
	s.agent.edit(t, "identity: {svid: {cert: agent.crt, key: agent.key}}", "identity: {enrolled: agent-id}")
	s.agent.edit(t, "trust: {cloud.example: {bundle: cloud.pem}}\n", "")
	s.agent.edit(t, "spiffe://cloud.example/relay/*", "spiffe://dc1.example/relay/*")
	s.ca(t, "init", "--trust-domain", "dc1.example", "--svid-life", life.String(), "--refresh-hint", "1s")
	s.startAuthority(t)
	s.relay.command(t, "authority", "enroll", "--socket", s.file("authority.sock"), "--dir", s.file("relay-id"), "--token-file", s.enrolment(t, "--relay", "a"))
	s.relay.start(t)
	s.relay.ready(t)
	s.enrolAgent(t)
	return s
}

func (s *issued) startAuthority(t *testing.T) {
	t.Helper()
	s.authority = process.Start(t, "authority", exec.CommandContext(context.WithoutCancel(t.Context()), s.relay.binary(t),
		"authority", "serve", "--dir", s.file("ca"), "--socket", s.file("authority.sock")))
	s.watch(fmt.Sprintf("authority (process %d)", s.authority.Pid()), s.authority)
	s.authority.Ready(t, "listen", func(context.Context) error {
		_, err := os.Stat(s.file("authority.sock"))
		return err
	})
}

// ca runs one of the authority's commands on its folder, and returns what it prints.
func (s *issued) ca(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), s.relay.binary(t), append(append([]string{"authority"}, args...), "--dir", s.file("ca"))...).Output()
	if err != nil {
		said, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("authority %v: %v %s", args, err, said.Stderr)
	}
	return string(out)
}

// enrolment makes a token and returns the path of its file.
func (s *issued) enrolment(t *testing.T, whom ...string) string {
	t.Helper()
	return s.secretFile(t, "enrolment", strings.TrimSpace(s.ca(t, append([]string{"token"}, whom...)...)))
}

func (s *issued) enrolAgent(t *testing.T) {
	t.Helper()
	said := s.agent.command(t, "enroll", "--relay", s.address.String(), "--token-file", s.enrolment(t, "--agent", "a"), "--dir", s.file("agent-id"))
	if !strings.Contains(said, issuedAgentID) {
		t.Errorf("enroll says %q", said)
	}
}

func (s *issued) startAgent(t *testing.T) {
	t.Helper()
	s.agent.start(t)
	s.agent.ready(t)
}

// load calls until end is called, which wants all of them to have gone well.
func (s *issued) load(t *testing.T, versions ...version) (end func()) {
	t.Helper()
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, v := range versions {
		c := s.caller(t, nil, billingID, v)
		running.Go(func() {
			for calls := 0; ; calls++ {
				select {
				case <-stop:
					t.Logf("%v: %d calls", v, calls)
					return
				default:
				}
				if a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"}); err != nil || a.StatusCode != http.StatusOK {
					t.Errorf("%v: after %d calls: %s, %v", v, calls, a.body, err)
					return
				}
			}
		})
	}
	return func() {
		close(stop)
		running.Wait()
	}
}

// TestTheAuthoritysWholeLife takes a site from nothing through sixty renewals and the turn of the root, under load: no call
// fails, no link is lost.
func TestTheAuthoritysWholeLife(t *testing.T) {
	const renewals = 60
	s := withAuthority(t, 6*time.Second, options{}, ordersTunnel(servers.StartOrders(t, new(servers.Loopback))))
	s.startAgent(t)
	end := s.load(t, h1, h2, h3)
	count := func() int {
		return strings.Count(s.relay.Log().String(), "identity renewed") + strings.Count(s.agent.Log().String(), "identity renewed")
	}
	await := func(n int) {
		within(t, 3*time.Minute, fmt.Sprintf("%d renewals", n), func(context.Context) error {
			if count() < n {
				return errNotYet
			}
			return nil
		})
	}
	await(renewals / 3)
	s.ca(t, "root", "prepare")
	within(t, time.Minute, "the next root may be activated", func(ctx context.Context) error {
		return exec.CommandContext(ctx, s.relay.binary(t), "authority", "root", "activate", "--dir", s.file("ca")).Run()
	})
	await(2 * renewals / 3)
	s.ca(t, "issuer")
	within(t, time.Minute, "the old root may be retired", func(ctx context.Context) error {
		return exec.CommandContext(ctx, s.relay.binary(t), "authority", "root", "retire", "--dir", s.file("ca")).Run()
	})
	await(renewals)
	end()
	if roots := s.ca(t, "root", "list"); strings.Count(roots, "\n") != 2 {
		t.Errorf("roots:\n%s", roots)
	}
	for _, p := range []*program{s.relay, s.agent} {
		for _, ended := range []string{"link lost", "identity_expired", "newer SVID is refused", "not renewed, what there is"} {
			if line := regexp.MustCompile(".*" + ended + ".*").FindString(p.Log().String()); line != "" {
				t.Errorf("%s says %s", p.name, line)
			}
		}
	}
}

// TestATokenEnrolsOnce tries one token from twenty agents at once, and again (H19).
func TestATokenEnrolsOnce(t *testing.T) {
	t.Parallel()
	s := withAuthority(t, time.Hour, options{}, tunnel{name: "orders", backend: "http://127.0.0.1:1"})
	token := s.enrolment(t, "--agent", "b")
	var won atomic.Int32
	var running sync.WaitGroup
	for i := range 20 {
		running.Go(func() {
			out, err := exec.CommandContext(t.Context(), s.agent.binary(t), "enroll", "--relay", s.address.String(), "--token-file", token,
				"--dir", s.file(fmt.Sprintf("b-%d", i))).CombinedOutput()
			if err == nil {
				won.Add(1)
			} else if !strings.Contains(string(out), "the token is not known") {
				t.Errorf("refused with %s", out)
			}
		})
	}
	running.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 20 tries went well", n)
	}
	expired := s.enrolment(t, "--agent", "b", "--ttl", "1ms")
	if said := s.agent.fails(t, "enroll", "--relay", s.address.String(), "--token-file", expired, "--dir", s.file("b")); !strings.Contains(said, "expired") {
		t.Errorf("an expired token: %s", said)
	}
	// A relay of another authority is no relay for this token: it hears nothing that it could use it with.
	other := withAuthority(t, time.Hour, options{}, tunnel{name: "orders", backend: "http://127.0.0.1:1"})
	unused := s.enrolment(t, "--agent", "c")
	if said := s.agent.fails(t, "enroll", "--relay", other.address.String(), "--token-file", unused, "--dir", s.file("c")); !strings.Contains(said, "fingerprint") {
		t.Errorf("another authority's relay: %s", said)
	}
	s.agent.command(t, "enroll", "--relay", s.address.String(), "--token-file", unused, "--dir", s.file("c"))
}

// TestABigRequestIsCutOff sends what announces 16 MiB to the port that asks for no certificate (H20).
func TestABigRequestIsCutOff(t *testing.T) {
	t.Parallel()
	s := withAuthority(t, time.Hour, options{}, tunnel{name: "orders", backend: "http://127.0.0.1:1"})
	conn, err := tls.Dial("tcp", s.address.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"fairlead-enroll/1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for chunk := append([]byte{8, 0xff, 0xff, 0xff}, make([]byte, 1<<20)...); sent < 16<<20; chunk = chunk[4:] {
		n, err := conn.Write(chunk)
		if sent += n; err != nil {
			break
		}
	}
	if sent >= 16<<20 {
		t.Error("all of it was taken")
	}
	if a := s.caller(t, nil, billingID, h1); a == nil {
		t.Fatal("no caller")
	}
	within(t, 10*time.Second, "it is logged", func(context.Context) error {
		if !strings.Contains(s.relay.Log().String(), "request refused") {
			return errNotYet
		}
		return nil
	})
}

// TestABanEndsLinksOnEveryRelay bans an agent by its SVID's serial number, with a second relay that has the authority behind
// the first one only (H10): both end its links within 5 s, running calls with link_lost; it cannot renew, enrols again with a
// new token, and the ban outlives restarts without the authority.
func TestABanEndsLinksOnEveryRelay(t *testing.T) {
	silent, err := new(servers.Loopback).Listen(t.Context(), "tcp", "127.0.0.1:0") // takes calls and answers none
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := withAuthority(t, time.Hour, options{}, tunnel{name: "slow", backend: "http://" + silent.Addr().String()})
	second := s.secondRelay(t)
	s.startAgent(t)
	within(t, time.Minute, "both relays have the agent", func(context.Context) error {
		if !strings.Contains(second.command(t, "status", "-c", second.config), "dc1-a") {
			return errNotYet
		}
		return nil
	})
	c := s.caller(t, nil, billingID, h1)
	answered := make(chan answer, 1)
	go func() {
		a, err := c.do(t, call{tunnel: "slow", path: "/"})
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	serial := regexp.MustCompile(`"SVID issued","spiffe_id":"` + issuedAgentID + `","serial":"([0-9a-f]+)"`).FindStringSubmatch(s.authority.Log().String())
	if serial == nil {
		t.Fatal("the authority's log does not name the SVID that it has issued")
	}
	banned := time.Now()
	s.ca(t, "ban", serial[1], "--reason", "stolen")
	if a := <-answered; a.StatusCode != http.StatusBadGateway || a.code() != "link_lost" {
		t.Errorf("the running call got %d %s", a.StatusCode, a.body)
	}
	if d := time.Since(banned); d > 5*time.Second {
		t.Errorf("the call ended %s after the ban", d)
	}
	for _, p := range []*program{s.relay, second} {
		within(t, time.Minute, p.name+" has no link and says why", func(context.Context) error {
			if log := p.Log().String(); !strings.Contains(log, "identity_banned") || strings.Contains(p.command(t, "status", "-c", p.config), "dc1-a") {
				return errNotYet
			}
			return nil
		})
	}
	within(t, time.Minute, "the agent is told why", func(context.Context) error {
		if !strings.Contains(s.agent.Log().String(), "identity_banned") {
			return errNotYet
		}
		return nil
	})
	// Without the authority, after a restart, the ban holds.
	if err := s.authority.Stop(); err != nil {
		t.Errorf("the authority ended with %v", err)
	}
	s.relay.stop(t)
	s.relay.start(t)
	s.relay.ready(t)
	within(t, time.Minute, "the agent is refused", func(context.Context) error {
		if !strings.Contains(s.relay.Log().String(), "identity_banned") {
			return errNotYet
		}
		return nil
	})
	if a := c.must(t, http.StatusServiceUnavailable, call{tunnel: "slow", path: "/"}); a.code() != "no_agent" {
		t.Errorf("got %s", a.body)
	}
	// A new token begins a new line, which is not banned.
	s.startAuthority(t)
	s.enrolAgent(t)
	within(t, 2*time.Minute, "the agent is back", func(context.Context) error {
		if !strings.Contains(s.relay.command(t, "status", "-c", s.relay.config), "dc1-a") {
			return errNotYet
		}
		return nil
	})
	// A banned relay loses its agents, who hear of it from the others.
	within(t, time.Minute, "the second relay has the agent again", func(context.Context) error {
		if !strings.Contains(second.command(t, "status", "-c", second.config), "dc1-a") {
			return errNotYet
		}
		return nil
	})
	s.ca(t, "ban", "spiffe://dc1.example/relay/b")
	within(t, 10*time.Second, "the agent lets the second relay go", func(context.Context) error {
		if !strings.Contains(s.agent.Log().String(), "the relay's identity is banned") {
			return errNotYet
		}
		return nil
	})
	within(t, time.Minute, "the second relay has no agent", func(context.Context) error {
		if strings.Contains(second.command(t, "status", "-c", second.config), "dc1-a") {
			return errNotYet
		}
		return nil
	})
	if !strings.Contains(s.relay.command(t, "status", "-c", s.relay.config), "dc1-a") {
		t.Error("the first relay has lost the agent too")
	}
	// A banned caller is refused, on connections that stand too.
	s.ca(t, "ban", billingID)
	within(t, 10*time.Second, "the caller is refused", func(context.Context) error {
		if a, err := c.do(t, call{tunnel: "slow", path: "/"}); err == nil && a.code() == "caller_denied" {
			return nil
		}
		return errNotYet
	})
	s.ca(t, "unban", billingID)
	if left := s.ca(t, "bans"); strings.Contains(left, billingID) || !strings.Contains(left, "stolen") {
		t.Errorf("bans:\n%s", left)
	}
}

// secondRelay enrols and starts another relay, which has the authority behind the first one, and tells the agent of it.
func (s *issued) secondRelay(t *testing.T) *program {
	t.Helper()
	address := servers.FreePort(t, new(servers.Loopback))
	text, err := os.ReadFile(s.relay.config)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ = cutBefore(string(text), "ops:")
	config := strings.NewReplacer("listen: "+s.address.String(), "listen: "+address.String(), "relay-id", "second-id",
		"authority: {socket: authority.sock, bundle_host: trust.dc1.example}", "authority: {relay: '"+s.address.String()+"'}").Replace(string(text))
	if err := os.Mkdir(s.file("second"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := newProgramOf(t, "relay", s.identities, new(servers.Loopback), "second", config)
	p.edit(t, "state_dir: .", "state_dir: second")
	p.command(t, "authority", "enroll", "--relay", s.address.String(), "--dir", s.file("second-id"), "--token-file", s.enrolment(t, "--relay", "b"))
	p.start(t)
	p.ready(t)
	s.agent.edit(t, `relays: ["`+s.address.String()+`"]`, `relays: ["`+s.address.String()+`", "`+address.String()+`"]`)
	return p
}

func cutBefore(text, mark string) (before []byte, after string, found bool) {
	head, rest, ok := strings.Cut(text, mark)
	return []byte(head), rest, ok
}

// TestAnAgentThatWasOffForTooLongSaysSo lets its SVID expire while the agent is off, and while the authority is.
func TestAnAgentThatWasOffForTooLongSaysSo(t *testing.T) {
	t.Parallel()
	s := withAuthority(t, 4*time.Second, options{}, ordersTunnel(servers.StartOrders(t, new(servers.Loopback))))
	within(t, time.Minute, "the agent's SVID has expired, which it says", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, s.agent.binary(t), "check", "-c", s.agent.config).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "enrol again with a new token") {
			return errNotYet
		}
		return nil
	})
	s.enrolAgent(t)
	s.startAgent(t)
	c := s.caller(t, nil, billingID, h1)
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	if err := s.authority.Stop(); err != nil {
		t.Errorf("the authority ended with %v", err)
	}
	within(t, time.Minute, "calls find no agent", func(context.Context) error {
		if a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"}); err != nil || a.code() != "no_agent" {
			return errNotYet
		}
		return nil
	})
	within(t, time.Minute, "the agent says what to do", func(context.Context) error {
		if !strings.Contains(s.agent.Log().String(), "enrol again with a new token") {
			return errNotYet
		}
		return nil
	})
	s.startAuthority(t)
	s.relay.command(t, "authority", "enroll", "--socket", s.file("authority.sock"), "--dir", s.file("relay-id"), "--token-file", s.enrolment(t, "--relay", "a"))
	s.enrolAgent(t)
	within(t, time.Minute, "both are back without a restart", func(context.Context) error {
		if a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"}); err != nil || a.StatusCode != http.StatusOK {
			return errNotYet
		}
		return nil
	})
}

// TestTheBundleIsAnybodysAndNothingElseIs fetches it as a stranger.
func TestTheBundleIsAnybodysAndNothingElseIs(t *testing.T) {
	t.Parallel()
	s := withAuthority(t, time.Hour, options{}, tunnel{name: "orders", backend: "http://127.0.0.1:1"})
	c := s.caller(t, nil, "", h1)
	get := func(path string) (int, string) {
		response, err := c.Get("https://trust.dc1.example" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	var bundle struct {
		Keys        []struct{ Use string } `json:"keys"`
		RefreshHint int                    `json:"spiffe_refresh_hint"`
	}
	status, text := get("/.well-known/spiffe-bundle")
	if err := json.Unmarshal([]byte(text), &bundle); status != http.StatusOK || err != nil || len(bundle.Keys) != 1 ||
		bundle.Keys[0].Use != "x509-svid" || bundle.RefreshHint != 1 {
		t.Errorf("got %d %s: %v", status, text, err)
	}
	if status, _ := get("/"); status != http.StatusNotFound {
		t.Errorf("another path: %d", status)
	}
	if a := c.must(t, http.StatusForbidden, call{tunnel: "orders", path: "/.well-known/spiffe-bundle"}); a.code() != "caller_unknown" {
		t.Errorf("another host: %s", a.body)
	}
}

// TestTwoTrustDomainsFederate has a relay of cloud.example follow the bundle of dc1.example, whose own relay serves it: the
// agent of dc1.example stays while its root turns over, and whoever claims the other trust domain's identity is refused (H12).
func TestTwoTrustDomainsFederate(t *testing.T) {
	t.Parallel()
	s := withAuthority(t, time.Hour, options{}, ordersTunnel(servers.StartOrders(t, new(servers.Loopback))))
	s.relay.edit(t, "bundle_host: trust.dc1.example", "bundle_host: localhost")
	s.relay.edit(t, "\nserver_certificate: {cert: relay.crt, key: relay.key}", "") // others know it by its SVID
	s.relay.stop(t)
	s.relay.start(t)
	s.relay.ready(t)
	if err := os.WriteFile(s.file("first.pem"), []byte(s.ca(t, "bundle", "--pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	other := newSite(t, options{}, s.tunnels...)
	other.cloud = s.cloud // one cloud
	certstest.WriteBundle(t, other.dir, "cloud", s.cloud)
	other.write(t, "relay", s.cloud.Issue(t, relayID, certstest.DNS("*.dc1.example")))
	other.relay.edit(t, "{bundle: dc1.pem}", fmt.Sprintf("{endpoint: 'https://localhost:%d/.well-known/spiffe-bundle', profile: https_spiffe, endpoint_id: '%s', bundle: '%s'}",
		s.address.Port(), issuedRelayID, s.file("first.pem")))
	other.relay.start(t)
	other.relay.ready(t)
	s.agent.edit(t, `relays: ["`+s.address.String()+`"]`, `relays: ["`+other.address.String()+`"]`)
	s.agent.edit(t, "spiffe://dc1.example/relay/*", "spiffe://cloud.example/relay/*")
	s.agent.edit(t, "identity: {enrolled: agent-id}", "identity: {enrolled: agent-id}\ntrust: {cloud.example: {bundle: cloud.pem}}")
	s.startAgent(t)
	c := other.caller(t, nil, billingID, h1)
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})

	// An authority of one trust domain vouches for no other's identities.
	for name, cert := range map[string]tls.Certificate{
		"theirs from ours": s.cloud.Issue(t, "spiffe://dc1.example/agent/b"),
		"ours from theirs": s.dc.Issue(t, "spiffe://cloud.example/agent/b"), // of a CA that nobody here believes
	} {
		conn, err := tls.Dial("tcp", other.address.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"fairlead/1"}, Certificates: []tls.Certificate{cert}})
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells a client of its certificate at its first read
			_ = conn.Close()
		}
		if alert, ok := errors.AsType[*net.OpError](err); !ok || alert.Op != "remote error" {
			t.Errorf("%s: %v", name, err)
		}
	}

	s.ca(t, "root", "prepare")
	within(t, time.Minute, "the other relay knows the next root", func(context.Context) error {
		if !strings.Contains(other.relay.Log().String(), "bundle changed") {
			return errNotYet
		}
		return nil
	})
	s.ca(t, "root", "activate", "--force")
	s.enrolAgent(t)
	within(t, time.Minute, "the agent has shown its new SVID", func(context.Context) error {
		if !strings.Contains(s.agent.Log().String(), "identity reloaded") {
			return errNotYet
		}
		return nil
	})
	s.ca(t, "root", "retire", "--force")
	within(t, time.Minute, "the other relay has let the old root go", func(context.Context) error {
		if strings.Count(other.relay.Log().String(), "bundle changed") < 2 {
			return errNotYet
		}
		return nil
	})
	c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	if strings.Contains(s.agent.Log().String(), "link lost") {
		t.Error("a link was lost")
	}
}

// TestEverythingThatExpiresIsShown wants the SVID, both bundles and the server_certificate in status and metrics.
func TestEverythingThatExpiresIsShown(t *testing.T) {
	t.Parallel()
	s := withAuthority(t, time.Hour, options{}, tunnel{name: "orders", backend: "http://127.0.0.1:1"})
	var status struct {
		Expiries []struct{ Kind, Name string }
	}
	if err := json.Unmarshal([]byte(s.relay.command(t, "status", "-c", s.relay.config, "--json")), &status); err != nil {
		t.Fatal(err)
	}
	metrics, err := s.relay.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for kind, name := range map[string]string{"svid": issuedRelayID, "server_certificate": "*.dc1.example"} {
		if !slices.ContainsFunc(status.Expiries, func(e struct{ Kind, Name string }) bool { return e.Kind == kind && e.Name == name }) {
			t.Errorf("status has no %s of %s: %v", kind, name, status.Expiries)
		}
		if line := fmt.Sprintf(`fairlead_relay_expiry_timestamp_seconds{kind="%s",name="%s"}`, kind, name); !strings.Contains(metrics, line) {
			t.Errorf("no metric %s", line)
		}
	}
	for _, td := range []string{"cloud.example", "dc1.example"} {
		if !strings.Contains(metrics, `{kind="bundle",name="`+td+`"}`) {
			t.Errorf("no metric of the bundle of %s", td)
		}
	}
}
