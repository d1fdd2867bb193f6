package config

import (
	"errors"
	"strings"
	"testing"
)

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	_, err := load(t, folder(t), `name: dc1-a
relays: [relay-a.cloud.example]
relay_id: [spiffe://cloud.example/relay/*]
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
colour: red
tunnels:
  - name: orders
    backend: http://10.0.0.5:8080
    name: orders2
    timeouts: {dial: soon}
  - name: Ledger
    backend: tcp://10.0.0.9
`)
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("got %v, want Faults", err)
	}
	want := []string{
		`agent.yaml:2: relays[0]: expected host:port of a relay, got "relay-a.cloud.example"`,
		`agent.yaml:6: colour: unknown key`,
		`agent.yaml:10: tunnels[0].name: duplicate key, first on line 8`,
		`agent.yaml:11: tunnels[0].timeouts.dial: expected a time such as 10s, from 10ms to 1m0s, got "soon"`,
		`agent.yaml:12: tunnels[1].name: tunnel name: expected only a-z, 0-9 and '-', got 'L' at 0`,
		`agent.yaml:13: tunnels[1].backend: expected a port, as in tcp://host:5432`,
	}
	if got := faults.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestEachFaultHasItsMessage(t *testing.T) {
	dir := folder(t)
	for _, c := range []struct{ from, to, want string }{
		{"name: dc1-a", "name: DC1", "name: agent name: expected only"},
		{"name: dc1-a", "name: [a]", "name: expected a name, got a list"},
		{"name: dc1-a", "name:", "agent.yaml:1: name: expected a name, got nothing"},
		{"relay-a.cloud.example:8443", "a:1, a:1", "relays[1]: expected each relay once"},
		{"relay-a.cloud.example:8443", "a:0", "relays[0]: expected host:port"},
		{"relay-a.cloud.example:8443", "https://a:1", "relays[0]: expected host:port"},
		{"relay-a.cloud.example:8443", "", "relays: expected at least one entry"},
		{"[spiffe://cloud.example/relay/*]", "[spiffe://other.example/relay/*]", "trust: expected a bundle for other.example"},
		{"[spiffe://cloud.example/relay/*]", "[https://cloud.example]", "relay_id[0]: expected a SPIFFE ID or pattern"},
		{"[spiffe://cloud.example/relay/*]", "spiffe://cloud.example/relay/a", "relay_id: expected a list"},
		{"agent.key}}", "agent.key}, workload_api: x}", "identity.workload_api: expected unix:///path/to/the/socket"},
		{"agent.key}}", "agent.key}, workload_api: unix:///run/x}", "identity: expected one of the keys svid, workload_api and enrolled"},
		{"agent.key}}", "agent.key}, enrolled: x}", "identity: expected one of the keys svid, workload_api and enrolled"},
		{"{svid: {cert: agent.crt, key: agent.key}}", "{enrolled: [x]}", "identity.enrolled: expected a path"},
		{"{svid: {cert: agent.crt, key: agent.key}}", "{}", "identity: expected one of the keys svid, workload_api and enrolled"},
		{"cert: agent.crt, ", "", "identity.svid: expected the key cert"},
		{"key: agent.key", "key: open.key", "identity.svid.key: secret file"}, // O01
		{"cert: agent.crt", "cert: nowhere.crt", "identity.svid.cert: expected a file that can be read"},
		{"cert: agent.crt", "cert: .", "is not a regular file"},
		{"bundle: cloud.pem", "endpoint: x", "trust.cloud.example: an https URL without user and password is expected as endpoint"},
		{"{bundle: cloud.pem}", "{}", "trust.cloud.example: expected the key bundle"},
		{"cloud.example: {", "Cloud.Example: {", "expected a trust domain as key"},
		{"trust: {", "transport: udp\ntrust: {", `transport: expected auto, quic or tcp, got "udp"`},
		{"trust: {", "congestion: cubic\ntrust: {", `congestion: expected auto, bbr or system, got "cubic"`},
		{"trust: {", "ops: 0.0.0.0:9091\ntrust: {", "ops: expected a loopback address"},
		{"trust: {", "ops: 10.0.0.1:9091\ntrust: {", "ops: expected a loopback address"},
		{"trust: {", "log_level: warn\ntrust: {", "log_level: unknown key"},
		{"trust: {", "limits: {streams: 0}\ntrust: {", "limits.streams: expected a whole number from 1"},
		{"trust: {", "limits: {header: 10MB}\ntrust: {", "limits.header: expected a size such as 32KiB"},
		{"trust: {", "proxy: {url: ftp://p:1}\ntrust: {", "proxy.url: expected http://host:port or socks5://host:port"},
		{"trust: {", "proxy: {url: http://p:1, user: a}\ntrust: {", "proxy: expected user and password_file together"},
		{"trust: {", "proxy: {url: http://p:1, user: a, password_file: open.key}\ntrust: {", "proxy.password_file: secret file"},
		{"trust: {", "proxy: {url: http://p:1, password: a}\ntrust: {", "proxy.password: unknown key"},
		{"name: orders", "name: a/b", "tunnels[0].name: tunnel name: expected only"},                       // R07
		{"http://10.0.0.5:8080", "http://10.0.0.*:8080", "tunnels[0].backend: expected one host name"},     // S07
		{"http://10.0.0.5:8080", "tcp://10.0.0.0/24", "tunnels[0].backend: expected"},                      // S07
		{"http://10.0.0.5:8080", "tcp://10.0.0.5:0", "tunnels[0].backend: expected a port"},                // S07
		{"http://10.0.0.5:8080", "unix:///run/../etc/x", "tunnels[0].backend: expected a socket path"},     // S07
		{"http://10.0.0.5:8080", "http://169.254.169.254", "tunnels[0].backend: expected an address that"}, // S03
		{"http://10.0.0.5:8080", "udp://10.0.0.5", "expected a port, as in udp://host:5432"},
		{"http://10.0.0.5:8080", "tcp://10.0.0.5:1\n    allow: {methods: [GET]}", "expected allow only with an HTTP backend"},
		{"http://10.0.0.5:8080", "tcp://10.0.0.5:1\n    tls: {ca: ca.pem}", "expected tls only with"},
		{"http://10.0.0.5:8080", "tcp://10.0.0.5:1\n    health: {path: /x}", "expected health.path only with"},
		{"http://10.0.0.5:8080", "tls://10.0.0.5:1\n    tls: {cert: agent.crt}", "tls: expected cert and key together"},
		{"http://10.0.0.5:8080", "tls://10.0.0.5:1\n    tls: {insecure: true}", "tls.insecure: unknown key"},
		{"http://10.0.0.5:8080", "http://a\n    allow: {methods: [get]}", "allow.methods[0]: expected a method in capitals"},
		{"http://10.0.0.5:8080", "http://a\n    allow: {paths: [/v1/**/x]}", "allow.paths[0]: expected * as a whole segment"},
		{"http://10.0.0.5:8080", "http://a\n    allow: {}", "allow: expected methods, paths or both"},
		{"http://10.0.0.5:8080", "http://a\n    health: {path: healthz}", "health.path: expected a path"},
		{"http://10.0.0.5:8080", "http://a\n    health: {path: /a?b}", "health.path: expected a path"},
		{"http://10.0.0.5:8080", "http://a\n    callers: []", "callers: expected at least one entry"},
		{"http://10.0.0.5:8080", "http://a\n  - {name: orders, backend: http://b}", "tunnels[1]: expected each tunnel once"},
		{"    backend: http://10.0.0.5:8080\n", "", "agent.yaml:7: tunnels[0]: expected the key backend"},
		{"- name: orders", "- &a {name: x, backend: http://b}\n  - *a\n  - name: orders", "tunnels[1]: expected a mapping, got an alias"},
		{"- name: orders", "- <<: {name: x}\n    name: orders", "expected a plain key"},
	} {
		if strings.Count(smallest, c.from) != 1 {
			t.Fatalf("%q is not once in the file", c.from)
		}
		_, err := load(t, dir, strings.Replace(smallest, c.from, c.to, 1))
		faults, ok := errors.AsType[Faults](err)
		if !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: got %v, want %q", c.to, c.from, err, c.want)
			continue
		}
		for _, f := range faults {
			if f.Line < 1 || f.File != "agent.yaml" || f.Message == "" {
				t.Errorf("%q: got %+v without its place", c.to, f)
			}
			if strings.Contains(f.Message, "config.") || strings.Contains(f.Message, "yaml.") || strings.Contains(f.Message, "!!") {
				t.Errorf("%q: the message shows the inside: %s", c.to, f.Message)
			}
		}
	}
}

func TestAPasswordInTheProxyURLIsNotRepeated(t *testing.T) {
	_, err := load(t, folder(t), "proxy: {url: 'http://agent:canary@proxy:3128'}\n"+smallest)
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNoYAMLIsOneFaultWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "agent.yaml: expected a mapping, got an empty file",
		"# nothing\n":                        "expected a mapping, got an empty file",
		"name: [a\nb: c\n":                   "agent.yaml:",
		"name: a\n\tb: c\n":                  "agent.yaml:2: expected YAML: ",
		"- a\n":                              "agent.yaml:1: expected a mapping, got a list",
		smallest + "---\nname: b\n":          "expected one YAML document",
		"x: " + strings.Repeat("y", maxFile): "expected a file of at most",
	} {
		_, err := load(t, t.TempDir(), text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: got %v, want %q", text, err, want)
		}
	}
}
