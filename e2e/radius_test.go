//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/servers"
)

var otpState = regexp.MustCompile(`state="([A-Z2-7]+)"`)

func TestASecondFactorIsJudgedByARADIUSServerInTheDataCentre(t *testing.T) {
	l := lab.New(t, lab.Options{})
	f, api := servers.StartFreeRADIUS(t, l.Host("dc")), servers.StartOrders(t, l.Host("dc"))
	toRADIUS := func(name, protocol, backend string) tunnel {
		return tunnel{name: "radius-" + name, protocol: protocol, backend: backend, callers: "[spiffe://cloud.example/relay/*]", token: "none"}
	}
	orders := func(name string) tunnel {
		u := ordersTunnel(api)
		u.name, u.relay = name, ""
		u.proofs = fmt.Sprintf("{all: [{token: {issuer: %s}}, {radius: {server: %s}}]}", issuerURL, name)
		return u
	}
	server := func(name, more string) string {
		return fmt.Sprintf("  - {name: %s, tunnel: radius-%s, %s}\n", name, name, more)
	}
	radsec := fmt.Sprintf("server_name: %s, ca: %s, cert: %s, key: %s", servers.RADIUSServerName, f.CA, f.Cert, f.Key)
	o := labSite(l)
	o.relay = "audit: {file: relay.jsonl}\nradius:\n" + server("tls", radsec) + server("udp", "secret_file: radius.secret") +
		server("bad", "secret_file: bad.secret") + server("anon", fmt.Sprintf("server_name: %s, ca: %s", servers.RADIUSServerName, f.CA))
	s := newSite(t, o,
		toRADIUS("tls", "tcp", "tcp://"+f.TLS.String()), toRADIUS("udp", "udp", "udp://"+f.UDP.String()),
		toRADIUS("bad", "udp", "udp://"+f.UDP.String()), toRADIUS("anon", "tcp", "tcp://"+f.TLS.String()),
		orders("tls"), orders("udp"), orders("bad"), orders("anon"))
	s.secretFile(t, "radius.secret", servers.RADIUSSecret)
	s.secretFile(t, "bad.secret", "another secret")
	s.secret(servers.RADIUSAdaCode, servers.RADIUSGraceFirst, servers.RADIUSGraceNext)
	s.start(t)
	c := s.caller(t, l.Host("caller"), billingID, h2)
	ask := func(tunnel, user, code, state string) call {
		h := http.Header{}
		if code != "" {
			h.Set("Fairlead-Otp", code)
		}
		if state != "" {
			h.Set("Fairlead-Otp-State", state)
		}
		return call{tunnel: tunnel, path: "/v1/orders", token: s.mint(t, map[string]any{"sub": user}), header: h}
	}
	for _, way := range []string{"tls", "udp"} {
		good := c.must(t, 200, ask(way, "ada", servers.RADIUSAdaCode, ""))
		if r := records(t, s.file("relay.jsonl"), good.Header.Get("Fairlead-Call-Id"), 1)[0]; r.User != "ada" {
			t.Errorf("%s: %+v", way, r)
		}
		for name, k := range map[string]call{"a wrong code": ask(way, "ada", "000000", ""), "no code": ask(way, "ada", "", ""), "nobody the server knows": ask(way, "eve", "1", "")} {
			if a := c.must(t, 401, k); a.code() != "mfa_required" {
				t.Errorf("%s, %s: %s", way, name, a.body)
			}
		}
		// Access-Challenge: another answer is wanted, which must name the challenge.
		challenge := func() string {
			a := c.must(t, 401, ask(way, "grace", servers.RADIUSGraceFirst, ""))
			found := otpState.FindStringSubmatch(a.Header.Get("WWW-Authenticate"))
			if a.code() != "mfa_required" || found == nil || !strings.Contains(a.body, "Wait for the next code") {
				t.Fatalf("%s: %s, %q", way, a.body, a.Header.Get("WWW-Authenticate"))
			}
			return found[1]
		}
		state := challenge()
		c.must(t, 401, ask(way, "ada", servers.RADIUSGraceNext, state)) // another's, which uses it up
		c.must(t, 401, ask(way, "grace", servers.RADIUSGraceNext, state))
		c.must(t, 200, ask(way, "grace", servers.RADIUSGraceNext, challenge()))
	}
	for _, way := range []string{"bad", "anon"} { // a server that does not prove the secret, or takes nobody without a certificate
		if a := c.must(t, 503, ask(way, "ada", servers.RADIUSAdaCode, "")); a.code() != "identity_unavailable" {
			t.Errorf("%s: %s", way, a.body)
		}
	}
}
