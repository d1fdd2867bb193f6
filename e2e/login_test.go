//go:build linux

package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/servers"
)

// login is a call by a name and a password, with a code unless it is "".
func login(tunnel, name, password, code string) call {
	h := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))}}
	if code != "" {
		h.Set("Fairlead-Otp", code)
	}
	return call{tunnel: tunnel, path: "/v1/orders", noToken: true, header: h}
}

func TestUsersOfADirectoryInTheDataCentreLogInThroughItsOwnTunnel(t *testing.T) {
	l := lab.New(t, lab.Options{})
	d, api := servers.StartSlapd(t, l.Host("dc")), servers.StartOrders(t, l.Host("dc"))
	directory := func(name, tls string) string {
		return fmt.Sprintf(`  - {name: %s, tunnel: directory-%s, tls: %s, server_name: %s, ca: %s, base: 'ou=people,%s', bind_dn: '%s', password_file: searcher.secret,
     groups: {base: 'ou=groups,%s'}, cache: 1s}
`, name, name, tls, servers.SlapdServerName, d.CA, d.Base, servers.SlapdSearcher, d.Base)
	}
	ldap := func(name, address string) tunnel {
		return tunnel{name: "directory-" + name, protocol: "tcp", backend: "tcp://" + address, callers: "[spiffe://cloud.example/relay/*]", token: "none"}
	}
	orders := func(name, proofs string) tunnel {
		u := ordersTunnel(api)
		u.name, u.relay, u.callers, u.proofs = name, "", "any", proofs
		u.agent += "\nidentify: {headers: true}"
		return u
	}
	o := labSite(l)
	o.relay = "totp: totp.secrets\naudit: {file: relay.jsonl}\ndirectories:\n" + directory("corp", "ldaps") + directory("start", "starttls") +
		strings.Replace(directory("wrong", "ldaps"), servers.SlapdServerName, "elsewhere.example", 1)
	s := newSite(t, o,
		ldap("corp", d.TLS.String()), ldap("start", d.Addr.String()), ldap("wrong", d.TLS.String()),
		orders("orders", "{user: {directory: corp}}"), orders("clerks", "{user: {directory: start, groups: [clerks]}}"),
		orders("mistaken", "{user: {directory: wrong}}"), orders("strong", "{all: [{user: {directory: corp}}, {totp: {remember: 3s}}]}"))
	s.secretFile(t, "searcher.secret", servers.SlapdSearcherPassword)
	s.secret(servers.SlapdAdaPassword, servers.SlapdGracePassword)
	said := s.relay.command(t, "totp", "--user", "ada")
	lines := strings.Split(strings.TrimSpace(said), "\n")
	line, uri := lines[0][strings.LastIndex(lines[0], ": ")+2:], lines[1][strings.Index(lines[1], "otpauth://"):]
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	s.secretFile(t, "totp.secrets", line)
	s.start(t)
	c := s.caller(t, l.Host("caller"), "", h2)

	ada := func(tunnel string) call { return login(tunnel, "ada", servers.SlapdAdaPassword, "") }
	good := c.must(t, 200, ada("orders"))
	if r := records(t, s.file("relay.jsonl"), good.Header.Get("Fairlead-Call-Id"), 1)[0]; r.User != "ada" || r.Decision != "allow" {
		t.Errorf("%+v", r)
	}
	c.must(t, 200, ada("clerks"))
	for name, k := range map[string]struct {
		call   call
		status int
		code   string
	}{
		"a wrong password":       {login("orders", "grace", "guess", ""), 401, "credentials_invalid"},
		"another's password":     {login("orders", "grace", servers.SlapdAdaPassword, ""), 401, "credentials_invalid"},
		"an empty password":      {login("orders", "ada", "", ""), 401, "credentials_invalid"},
		"nobody":                 {login("orders", "eve", "x", ""), 401, "credentials_invalid"},
		"a filter for a name":    {login("orders", "a*", servers.SlapdAdaPassword, ""), 401, "credentials_invalid"},
		"a filter that ends":     {login("orders", "ada)(uid=*", servers.SlapdAdaPassword, ""), 401, "credentials_invalid"},
		"no login":               {call{tunnel: "orders", path: "/v1/orders", noToken: true}, 401, "credentials_missing"},
		"another group":          {login("clerks", "grace", servers.SlapdGracePassword, ""), 403, "denied"},
		"a certificate of none":  {ada("mistaken"), 503, "identity_unavailable"},
		"no second factor":       {ada("strong"), 401, "mfa_required"},
		"a user without secrets": {login("strong", "grace", servers.SlapdGracePassword, "123456"), 403, "denied"},
		"a wrong code":           {login("strong", "ada", servers.SlapdAdaPassword, "000000"), 401, "mfa_required"},
	} {
		if a := c.must(t, k.status, k.call); a.code() != k.code {
			t.Errorf("%s: got %s, want %s", name, a.body, k.code)
		}
	}
	code, err := totp.GenerateCode(u.Query().Get("secret"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, 200, login("strong", "ada", servers.SlapdAdaPassword, code))
	c.must(t, 200, ada("strong")) // for a while without one
	time.Sleep(3 * time.Second)
	if a := c.must(t, 401, login("strong", "ada", servers.SlapdAdaPassword, code)); a.code() != "mfa_required" || !strings.Contains(a.body, "used before") {
		t.Errorf("the same code: %s", a.body)
	}
	// Nobody but the relay reaches the directory.
	if a := c.must(t, 403, call{tunnel: "directory-corp", path: "/"}); a.code() != "caller_unknown" {
		t.Errorf("got %s", a.body)
	}
	// With the agent gone the directory is, and nobody gets in on what was remembered for longer than a second.
	s.agent.stop(t)
	time.Sleep(1100 * time.Millisecond)
	if a := c.must(t, 503, ada("orders")); a.code() != "identity_unavailable" {
		t.Errorf("without the directory: %s", a.body)
	}
	for _, file := range []string{"relay.jsonl"} {
		b, err := os.ReadFile(s.file(file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), servers.SlapdAdaPassword) || strings.Contains(string(b), "guess") {
			t.Errorf("%s holds a password", file)
		}
	}
}
