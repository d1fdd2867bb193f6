package config

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/federation"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

const minimal = `listen: 127.0.0.1:0
identity: {svid: {cert: relay.crt, key: relay.key}}
trust: {cloud.example: {bundle: cloud.pem}}
`

// withTunnel is a file with one tunnel, whose keys are these, one a line from line 5 on.
func withTunnel(keys ...string) string {
	return minimal + "tunnels:\n  - " + strings.Join(keys, "\n    ") + "\n"
}

var good = []string{
	"name: a", "protocol: http", "hosts: [a.example]", "agents: [spiffe://cloud.example/agent/*]", "callers: any", "token: none",
}

// authenticated is good with authenticate in place of token.
func authenticated(line string) string {
	return withTunnel(append(good[:len(good)-1:len(good)-1], line)...)
}

// replaced is good with other lines in place of those with the same key, and added ones at the end.
func replaced(lines ...string) string {
	keys := append([]string{}, good...)
next:
	for _, line := range lines {
		key, _, _ := strings.Cut(line, ":")
		for i := range keys {
			if strings.HasPrefix(keys[i], key+":") {
				keys[i] = line
				continue next
			}
		}
		keys = append(keys, line)
	}
	return withTunnel(keys...)
}

func load(t *testing.T, text string) (*Relay, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func must[T any](t *testing.T, parse func(string) (T, error), s string) T {
	t.Helper()
	v, err := parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryKeyArrives(t *testing.T) {
	got, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	limits := defaultLimits()
	limits.Unproved, limits.FailedHandshakes.Burst, limits.HeaderBytes = 100, 80, 64<<10
	agents := certs.Patterns{must(t, certs.ParsePattern, "spiffe://dc1.example/agent/*")}
	want := &Relay{
		Listen:            netip.MustParseAddrPort("0.0.0.0:8443"),
		ProxyProtocol:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Congestion:        socket.BBR,
		Ops:               netip.MustParseAddrPort("127.0.0.1:9190"),
		Control:           filepath.Join(dir, "run/relay.sock"),
		StateDir:          "/var/lib/fairlead-a",
		Identity:          Identity{KeyPair: KeyPair{filepath.Join(dir, "relay.crt"), filepath.Join(dir, "relay.key")}},
		ServerCertificate: &KeyPair{filepath.Join(dir, "web.crt"), filepath.Join(dir, "web.key")},
		Trust: map[certs.TrustDomain]sources.Bundle{
			must(t, certs.ParseTrustDomain, "cloud.example"): {File: filepath.Join(dir, "cloud.pem")},
			must(t, certs.ParseTrustDomain, "dc1.example"):   {File: "/etc/fairlead/dc1.pem"},
		},
		Tokens: []bearer.Issuer{
			{URL: "https://idp.example", Audiences: []string{"fairlead"}, JWKS: filepath.Join(dir, "idp.jwks.json"), Algorithms: []string{"ES256", "RS256"}},
			{URL: "https://other.example", Audiences: []string{"fairlead"}, JWKS: "https://other.example/keys"},
		},
		DrainTimeout: 30 * time.Second,
		Limits:       limits,
		Tunnels: []*tunnel.Tunnel{{
			Name: "orders", Network: protocol.HTTP, Hosts: []tunnel.Host{"orders.dc1.example"}, PathPrefix: "/v1/orders",
			Agents:       agents,
			Callers:      certs.Patterns{must(t, certs.ParsePattern, "spiffe://cloud.example/api/*")},
			Authenticate: tunnel.WantToken(&tunnel.TokenRule{Issuer: "https://idp.example", Scopes: []string{"orders.read"}}),
			Allow:        `request.method == "GET" || "orders.write" in token.scopes`, ForwardToken: true,
			Body: 10 << 20, Timeout: 5 * time.Second, Concurrent: 50, Per: tunnel.PerCaller,
			Listen: &tunnel.Listen{Socket: filepath.Join(dir, "orders.sock"), As: must(t, certs.ParseID, "spiffe://cloud.example/api/local")},
		}, {
			Name: "ledger", Network: protocol.TCP, Hosts: []tunnel.Host{"ledger.dc1.example"}, Agents: agents,
			AnyCaller: true, Timeout: 30 * time.Second,
			Listen: &tunnel.Listen{Address: netip.MustParseAddrPort("127.0.0.1:6000"), As: must(t, certs.ParseID, "spiffe://cloud.example/api/local")},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Relay{}), cmp.Comparer(same), cmp.Comparer(samePrefix),
		cmp.Comparer(samePattern), cmp.Comparer(sameID), cmp.Comparer(sameTD)); diff != "" {
		t.Error(diff)
	}
}

func same(a, b netip.AddrPort) bool       { return a == b }
func samePrefix(a, b netip.Prefix) bool   { return a == b }
func samePattern(a, b certs.Pattern) bool { return a.String() == b.String() }
func sameID(a, b certs.ID) bool           { return a == b }
func sameTD(a, b certs.TrustDomain) bool  { return a == b }

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	got, err := load(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	if got.Ops.String() != "127.0.0.1:9090" || got.Control != defaultControl || got.StateDir != defaultStateDir ||
		got.DrainTimeout != time.Minute || got.Limits != defaultLimits() || got.ServerCertificate != nil {
		t.Errorf("got %+v", got)
	}
}

func TestAllFaultsAreReportedAtOnceWithTheirLines(t *testing.T) {
	_, err := load(t, `listen: nowhere
identity: {svid: {cert: relay.crt}}
trust: {cloud.example: {bundle: cloud.pem}}
bogus: 1
drain_timeout: soon
tunnels:
  - name: a/b
    protocol: gopher
    hosts: [a.example]
    agents: [spiffe://cloud.example/agent/*]
    callers: [spiffe://other.example/x]
    allow: "true"
    allow: "false"
`)
	want := `relay.yaml:1: listen: expected an address and port such as 0.0.0.0:8443, got "nowhere"
relay.yaml:2: identity.svid: expected the key key
relay.yaml:4: bogus: unknown key, expected one of `
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got\n%v\nwant it to begin\n%s", err, want)
	}
	for _, part := range []string{
		"\nrelay.yaml:5: drain_timeout: expected a time such as 10s, ",
		"\nrelay.yaml:7: tunnels[0].name: tunnel name: expected only a-z, ",
		"\nrelay.yaml:7: tunnels[0]: expected one of the keys token and authenticate",
		"\nrelay.yaml:8: tunnels[0].protocol: expected http, tcp or udp, got \"gopher\"",
		"\nrelay.yaml:11: tunnels[0].callers: expected a trust domain that trust has a bundle for, got other.example",
		"\nrelay.yaml:13: tunnels[0].allow: duplicate key, first on line 12",
	} {
		if err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("missing %q in\n%v", part, err)
		}
	}
}

func TestBadValuesAreRefused(t *testing.T) {
	if _, err := load(t, withTunnel(good...)); err != nil {
		t.Fatal("the ground of every case below is faulty: ", err)
	}
	const tokens = "tokens: [{issuer: https://idp.example, audiences: [fairlead]}]\n"
	for _, c := range []struct{ text, want string }{
		{"", "relay.yaml: expected a mapping, got an empty file"},
		{"[]", "relay.yaml:1: expected a mapping, got a list"},
		{"a: [", "expected YAML"},
		{minimal + "---\n" + minimal, "expected one YAML document"},
		{minimal + "<<: {a: b}\n", "expected a plain key"},
		{"x: &a {}\nlisten: *a\n", "listen: expected an address and port such as 0.0.0.0:8443, got an alias"},
		{"listen: :8443\n", "relay.yaml:1: expected the key trust"},
		{minimal + "console: 127.0.0.1:9092\n", "relay.yaml:4: console: not supported by this version"},
		{minimal + "require_pq: perhaps\n", "require_pq: expected true or false"},
		{minimal + "audit: {keep: 2}\n", "audit: expected the key file"},
		{minimal + "audit: {file: a, rotate: 1KiB}\n", "audit.rotate: expected a size"},
		{withTunnel(append(slices.Clip(good), "audit: required")...), "tunnels[0].audit: expected the key audit with a file"},
		{withTunnel(append(slices.Clip(good), "authenticate: {any: [{svid: {}}]}")...), "tunnels[0]: expected one of the keys token and authenticate"},
		{authenticated("authenticate: {any: [{svid: {}, app: {}}]}"), "tunnels[0].authenticate.any[0]: expected one of the keys all, any, app, radius, svid, token, totp and user"},
		{authenticated("authenticate: {any: []}"), "tunnels[0].authenticate.any: expected at least one entry"},
		{authenticated("authenticate: {all: [{any: [{all: [{any: [{all: [{svid: {}}]}]}]}]}]}"), "expected all and any at most 4 deep"},
		{authenticated("authenticate: {app: {id: a}}"), "tunnels[0].authenticate.app.id: unknown key"},
		{replaced("token: {issuer: 'https://idp.example', claims: {roles: []}}") + tokens, "tunnels[0].token.claims.roles: expected at least one entry"},
		{replaced("token: {issuer: 'https://idp.example', max_age: soon}") + tokens, "tunnels[0].token.max_age: expected a time"},
		{minimal + "apps: [{id: a, secrets: ['secret'], tunnels: [a]}]\n", "apps[0].secrets[0]: expected sha256: and 64 hexadecimal digits"},
		{minimal + "apps: [{id: 'a:b', secrets: [], tunnels: [a]}]\n", "apps[0].id: expected a name of at most 128 characters"},
		{withTunnel(good...) + "apps: [{id: a, secrets: ['sha256:" + strings.Repeat("0", 64) + "'], tunnels: [nowhere]}]\n", "apps[0].tunnels: expected the name of a tunnel of this file"},
		{minimal + "tokens: [{issuer: 'https://a.example', audiences: [x], introspection: {url: 'https://a.example/i'}}]\n", "tokens[0].introspection: expected the key client_id"},
		{replaced("limits: {rate: 0}"), "tunnels[0].limits.rate: expected calls a second"},
		{replaced("limits: {rate: NaN}"), "tunnels[0].limits.rate: expected calls a second"},
		{replaced("limits: {burst: 3}"), "tunnels[0].limits: expected rate beside burst"},
		{replaced("limits: {per: app}"), "tunnels[0].limits: expected rate or quota beside per"},
		{replaced("limits: {rate: 1, per: planet}"), "tunnels[0].limits.per: expected caller, app, user, source or tunnel"},
		{replaced("limits: {quota: {calls: 5}}"), "tunnels[0].limits.quota: expected the key per"},
		{replaced("limits: {spike: {rate: 5}}"), "tunnels[0].limits.spike: expected the key queue"},
		{replaced("limits: {json: {depth: 0}}"), "tunnels[0].limits.json.depth: expected a whole number"},
		{replaced("protocol: tcp", "limits: {json: {}}"), "tunnels[0].limits.json: expected on http tunnels only"},
		{replaced("sources: [10.0.0.1/8]"), "tunnels[0].sources[0]: expected a network such as 10.0.0.0/8"},
		{minimal + "trusted_proxies: -1\n", "trusted_proxies: expected a whole number from 0 to 16"},
		{authenticated("authenticate: {user: {directory: corp}}"), "tunnels[0].authenticate.user.directory: expected one of the directories"},
		{authenticated("authenticate: {totp: {}}"), "tunnels[0].authenticate.totp: expected the key totp with a file"},
		{authenticated("authenticate: {radius: {server: rsa}}"), "tunnels[0].authenticate.radius.server: expected one of the servers of radius"},
		{minimal + "radius: [{name: rsa, tunnel: nowhere}]\n", "radius[0].tunnel: expected the name of a tcp or udp tunnel of this file"},
		{replaced("protocol: udp") + "radius: [{name: rsa, tunnel: a}]\n", "radius[0]: expected secret_file: plain RADIUS has nothing else"},
		{replaced("protocol: tcp") + "radius: [{name: rsa, tunnel: a}]\n", "radius[0]: expected server_name: RadSec is RADIUS over TLS"},
		{minimal + "directories: [{name: corp, tunnel: ldap, tls: none, server_name: a, base: b}]\n", "directories[0].tls: expected ldaps or starttls"},
		{minimal + "directories: [{name: corp, tunnel: ldap, tls: ldaps, server_name: a, base: b}]\n", "directories[0].tunnel: expected the name of a tcp tunnel of this file"},
		{minimal + "directories: [{name: corp, tunnel: ldap, tls: ldaps, server_name: a, base: b, filter: (uid=x)}]\n", "directories[0].filter: expected a filter with {user} in it"},
		{minimal + "directories: [{name: corp, tunnel: ldap, tls: ldaps, server_name: a, base: b, bind_dn: c}]\n", "directories[0]: expected bind_dn and password_file together"},
		{minimal + "directories: [{name: corp, tunnel: ldap, tls: ldaps, server_name: a, base: b, groups: {attribute: c, base: d}}]\n", "directories[0].groups: expected attribute, or base and filter"},
		{minimal + "tiers: {gold: {}}\n", "tiers.gold: expected rate, quota or both"},
		{replaced("limits: {rate: 1}") + "apps: [{id: a, secrets: ['sha256:" + strings.Repeat("0", 64) + "'], tunnels: [a], tier: gold}]\n", "expected the tier of a to be one of tiers, got gold"},
		{withTunnel(append(slices.Clip(good), "audit: perhaps")...), "tunnels[0].audit: expected required or best_effort"},
		{minimal + "cluster: {}\n", "cluster: not supported by this version"},
		{"identity: {workload_api: 'tcp://127.0.0.1:1'}\n", "identity.workload_api: expected unix:///path/to/the/socket"},
		{"identity: {workload_api: unix:///run/x, svid: {cert: a, key: b}}\n", "identity: expected one of the keys svid, workload_api and enrolled"},
		{"identity: {}\n", "identity: expected one of the keys svid, workload_api and enrolled"},
		{"identity: {enrolled: state, workload_api: unix:///run/x}\n", "identity: expected one of the keys svid, workload_api and enrolled"},
		{"authority: {}\n", "authority: expected one of the keys socket and relay"},
		{"authority: {socket: a.sock, relay: 'relay-a:8443'}\n", "authority: expected one of the keys socket and relay"},
		{"authority: {relay: relay-a}\n", "authority.relay: expected host:port of a relay"},
		{"authority: {relay: 'relay-a:8443', bundle_host: trust.example}\n", "authority: expected the key socket beside bundle_host"},
		{"authority: {relay: 'relay-a:8443'}\nidentity: {svid: {cert: a, key: b}}\n", "expected identity.enrolled with authority.relay"},
		{"trust: {a.example: {endpoint: https://x}}\n", "trust.a.example: https_web or https_spiffe is expected as profile"},
		{"trust: {a.example: {profile: https_web, bundle: a.pem}}\n", "trust.a.example: expected the key endpoint beside profile, endpoint_id and ca"},
		{"trust: {a.example: {ca: a.pem}}\n", "trust.a.example: expected the key bundle or endpoint"},
		{"trust: {a.example: {endpoint: 'https://x', profile: https_spiffe, endpoint_id: spiffe://b.example/s, bundle: a.pem}}\n", "trust.a.example: the SPIFFE ID of the endpoint, of a.example, is expected as endpoint_id"},
		{"trust: {}\n", "trust: expected at least one trust domain"},
		{"trust: {Cloud: {bundle: x}}\n", "trust.Cloud: trust domain"},
		{minimal + "ops: 0.0.0.0\n", "ops: expected an address and port"},
		{minimal + "advertise: relay:8443\n", "advertise: not supported by this version"},
		{minimal + "proxy_protocol: {from: [10.0.0.1/8]}\n", "proxy_protocol.from[0]: expected a network"},
		{minimal + "limits: {unproved: 0}\n", "limits.unproved: expected a whole number"},
		{minimal + "limits: {header_bytes: 32KB}\n", "limits.header_bytes: expected a size"},
		{minimal + "limits: {handshake_timeout: 5}\n", "limits.handshake_timeout: expected a time"},
		{minimal + "tokens: [{issuer: https://idp.example}]\n", "tokens[0]: expected the key audiences"},
		{minimal + "tokens: [{issuer: idp, audiences: [x]}]\n", "tokens[0].issuer: expected the issuer's URL"},
		{minimal + "tokens: [{issuer: https://idp.example, audiences: [x], algorithms: [none]}]\n", "tokens[0].algorithms[0]: expected one of"},
		{minimal + "tokens: [{issuer: https://idp.example, audiences: [x], algorithms: [HS256]}]\n", "tokens[0].algorithms[0]: expected one of"},
		{minimal + "tokens: [{issuer: https://idp.example, audiences: [x], jwks: 'ftp://x'}]\n", "tokens[0].jwks: expected a file or an https URL"},
		{minimal + "tokens:\n- &i {issuer: https://idp.example, audiences: [x]}\n- {issuer: https://idp.example, audiences: [x]}\n", "relay.yaml:6: tokens[1]: expected each issuer once"},
		{replaced("protocol: udp", "listen: {address: 127.0.0.1:1, as: spiffe://cloud.example/a}"), "tunnels[0]: expected no listen: a udp tunnel has no door"},
		{replaced("protocol: udp", "path: /v1"), "tunnels[0].path: expected on http tunnels only"},
		{replaced("hosts: [a.example, a.example]"), "tunnels[0].hosts[1]: expected each entry once"},
		{replaced("hosts: ['*.example']"), "tunnels[0].hosts[0]: expected a host name"},
		{replaced("hosts: [a.example:443]"), "tunnels[0].hosts[0]: expected a host name"},
		{replaced("hosts: []"), "tunnels[0].hosts: expected at least one entry"},
		{replaced("path: /a/../b"), "tunnels[0].path: expected a path"},
		{replaced("path: /a%2fb"), "tunnels[0].path: expected a path"},
		{replaced("protocol: tcp", "path: /a"), "tunnels[0].path: expected on http tunnels only"},
		{replaced("protocol: tcp", "limits: {body: 1}"), "tunnels[0].limits.body: expected on http tunnels only"},
		{replaced("protocol: tcp", "token: {issuer: https://idp.example}", "forward_token: true") + tokens, "tunnels[0].forward_token: expected on http tunnels only"},
		{replaced("agents: ['spiffe://cloud.example/agent*']"), "tunnels[0].agents[0]: SPIFFE ID pattern"},
		{replaced("agents: [spiffe://elsewhere/agent]"), "tunnels[0].agents: expected a trust domain that trust has a bundle for, got elsewhere"},
		{replaced("callers: all"), "tunnels[0].callers: expected a list of SPIFFE ID patterns, or the word any, got \"all\""},
		{replaced("token: nothing"), "tunnels[0].token: expected {issuer: …, scopes: […]}, or the word none"},
		{replaced("token:"), "tunnels[0].token: expected {issuer: …, scopes: […]}, or the word none, got nothing"},
		{replaced("token: {issuer: https://idp.example/}") + tokens, "relay.yaml:10: tunnels[0].token.issuer: expected one of the issuers in tokens"},
		{replaced("token: {issuer: https://idp.example, scopes: ['a b']}") + tokens, "tunnels[0].token.scopes[0]: expected visible ASCII"},
		{replaced("forward_token: true"), "tunnels[0].forward_token: expected a token rule beside it"},
		{replaced("forward_token: yes"), "tunnels[0].forward_token: expected true or false"},
		{replaced("allow:"), "tunnels[0].allow: expected an expression, got nothing"},
		{replaced("limits: {body: -1}"), "tunnels[0].limits.body: expected a size"},
		{replaced("limits: {body: 99999999TiB}"), "tunnels[0].limits.body: expected a size"},
		{replaced("wait: 0s"), "tunnels[0].wait: not supported by this version"},
		{replaced("retry: safe"), "tunnels[0].retry: not supported by this version"},
		{replaced("max_session: 0s"), "tunnels[0].max_session: not supported by this version"},
		{replaced("listen: {socket: a.sock}"), "tunnels[0].listen: expected the key as"},
		{replaced("listen: {as: spiffe://cloud.example/a}"), "tunnels[0].listen: expected one of the keys socket and address"},
		{replaced("listen: {socket: a.sock, address: '127.0.0.1:6000', as: spiffe://cloud.example/a}"), "tunnels[0].listen: expected one of the keys socket and address"},
		{replaced("listen: {address: '0.0.0.0:6000', as: spiffe://cloud.example/a}"), "tunnels[0].listen.address: expected a loopback address and port"},
		{replaced("listen: {address: '10.0.0.1:6000', as: spiffe://cloud.example/a}"), "tunnels[0].listen.address: expected a loopback address and port"},
		{replaced("listen: {address: ':6000', as: spiffe://cloud.example/a}"), "tunnels[0].listen.address: expected a loopback address and port"},
		{replaced("listen: {address: '127.0.0.1:0', as: spiffe://cloud.example/a}"), "tunnels[0].listen.address: expected a loopback address and port"},
		{replaced("listen: {address: '127.0.0.1:6000', as: spiffe://cloud.example/a}") + "  - {name: b, protocol: tcp, hosts: [b.example], agents: [spiffe://cloud.example/x], callers: any, token: none, listen: {address: '[::ffff:127.0.0.1]:6000', as: spiffe://cloud.example/a}}\n", "tunnels[1].listen.address: expected an address that no other tunnel has"},
		{replaced("callers: ['spiffe://cloud.example/a']", "listen: {socket: a.sock, as: spiffe://cloud.example/b}"), "tunnels[0].listen.as: expected an identity that callers lets in"},
		{replaced() + "  - {name: a, protocol: http, hosts: [b.example], agents: [spiffe://cloud.example/x], callers: any, token: none}\n", "relay.yaml:11: tunnels[1].name: expected a name that no other tunnel has"},
		{replaced() + "  - {name: b, protocol: http, hosts: [A.example.], agents: [spiffe://cloud.example/x], callers: any, token: none}\n", "tunnels[1].hosts: expected a place of its own, another tunnel is at http a.example"},
		{replaced("path: /v1") + "  - {name: b, protocol: http, path: /v1/, hosts: [a.example], agents: [spiffe://cloud.example/x], callers: any, token: none}\n", "tunnels[1].hosts: expected a place of its own"},
	} {
		_, err := load(t, c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got\n%v\nwant %q for\n%s", err, c.want, c.text)
		}
	}
}

func TestABundleMayComeFromAnEndpoint(t *testing.T) {
	c, err := load(t, "listen: 127.0.0.1:1\nidentity: {svid: {cert: a.crt, key: a.key}}\ntrust:\n  a.example: {endpoint: 'https://a.example/b', profile: https_web}\n"+
		"  b.example: {endpoint: 'https://b.example', profile: https_spiffe, endpoint_id: spiffe://b.example/spire/server, bundle: /b.pem}\n")
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Trust[must(t, certs.ParseTrustDomain, "a.example")], c.Trust[must(t, certs.ParseTrustDomain, "b.example")]
	if a.Endpoint.URL != "https://a.example/b" || a.Endpoint.Profile != federation.Web || b.Endpoint.ID.String() != "spiffe://b.example/spire/server" ||
		b.Endpoint.Bootstrap != "/b.pem" || b.File != "" {
		t.Errorf("%+v, %+v", a, b)
	}
}

func TestTheWorkloadAPIBringsBundlesAlong(t *testing.T) {
	c, err := load(t, "listen: 127.0.0.1:1\nidentity: {workload_api: unix:///run/spire/agent.sock}\n"+
		"tunnels:\n  - {name: a, protocol: http, hosts: [a.example], agents: [spiffe://dc1.example/x], callers: any, token: none}\n")
	if err != nil || c.Identity.WorkloadAPI != "unix:///run/spire/agent.sock" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTunnelNamesAreHeldToTheirGrammar(t *testing.T) { // R07
	for _, name := range []string{`"оrders"`, `".."`, `"*"`, `"a/b"`, `"a\0"`, `"a\r\nb"`, strings.Repeat("a", 300), `""`, "Orders"} {
		if _, err := load(t, replaced("name: "+name)); err == nil || !strings.Contains(err.Error(), "relay.yaml:5: tunnels[0].name: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTwoProtocolsAndTwoPathsShareAHost(t *testing.T) {
	got, err := load(t, replaced()+
		"  - {name: b, protocol: tcp, hosts: [a.example], agents: [spiffe://cloud.example/x], callers: any, token: none}\n"+
		"  - {name: c, protocol: http, path: /v1, hosts: [a.example], agents: [spiffe://cloud.example/x], callers: any, token: none}\n")
	if err != nil || len(got.Tunnels) != 3 {
		t.Errorf("got %v", err)
	}
}

func TestAFaultFoundLaterHasItsLine(t *testing.T) {
	got, err := load(t, replaced("allow: 'false'"))
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Fault("tunnels[0].allow", "expected better"); f.String() != "relay.yaml:11: tunnels[0].allow: expected better" {
		t.Errorf("got %s", f)
	}
}

func TestAMissingFileIsNotAFaultInIt(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if _, isFaults := errors.AsType[Faults](err); err == nil || isFaults {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(full), minimal, replaced("path: /v1"), "a: &a [*a]", "? [a]\n: b", "- x", "\xff", "a: !!binary x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &reader{name: "relay.yaml", dir: "/etc/fairlead", lines: map[string]int{}}
		c, err := r.load(b)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		if err != nil {
			faults, ok := errors.AsType[Faults](err)
			if !ok || len(faults) == 0 {
				t.Fatalf("got %T %v", err, err)
			}
			for _, f := range faults {
				if f.Line < 0 || f.Line > 2+bytes.Count(b, []byte("\n"))+bytes.Count(b, []byte("\r")) || f.Message == "" {
					t.Fatalf("got %+v", f)
				}
			}
			return
		}
		if _, err := tunnel.NewTable(c.Tunnels); err != nil {
			t.Fatalf("a file without faults makes no table: %v", err)
		}
	})
}
