package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

// folder is a folder with the files that the configurations of the tests name.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"agent.crt": 0o644, "agent.key": 0o600, "cloud.pem": 0o644, "proxy.secret": 0o600, "ca.pem": 0o644,
		"open.key": 0o644,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t testing.TB, dir, text string) (*Agent, error) {
	t.Helper()
	path := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

const smallest = `name: dc1-a
relays: [relay-a.cloud.example:8443]
relay_id: [spiffe://cloud.example/relay/*]
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
tunnels:
  - name: orders
    backend: http://10.0.0.5:8080
`

const fullest = `
name: dc1-a
relays: [relay-a.cloud.example:8443, "[2001:db8::1]:8443"]
relay_id: [spiffe://cloud.example/relay/*]
transport: quic
congestion: bbr
proxy: {url: http://proxy.corp:3128, user: agent, password_file: proxy.secret}
ops: 127.0.0.1:9091
control: run/agent.sock
state_dir: /var/lib/fairlead-agent
log_level: warn
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
limits: {streams: 10, stream_window: 1MiB, link_buffer: 2MiB, header: 32KiB, open_timeout: 1s, handshake: 2s}
tunnels:
  - name: orders
    backend: https://orders.dc1.example
    health: {path: /healthz, every: 5s}
    allow: {methods: [GET, POST], paths: [/v1/orders, /v1/orders/**]}
    tls: {ca: ca.pem, cert: agent.crt, key: agent.key, server_name: orders}
    timeouts: {dial: 1s, header: none, idle: 1m}
  - name: ledger
    backend: tcp://10.0.0.9:5432
    callers: [spiffe://cloud.example/api/billing]
  - {name: queue, backend: "unix:///run/queue.sock", health: {}}
`

func TestTheSmallestFileGetsTheDefaults(t *testing.T) {
	dir := folder(t)
	a, err := load(t, dir, smallest)
	if err != nil {
		t.Fatal(err)
	}
	if a.Transport != TransportAuto || a.Congestion != CongestionAuto || a.Proxy != nil || a.Ops.IsValid() || a.Control != "" ||
		a.LogLevel != slog.LevelInfo || a.Limits != defaultLimits() {
		t.Errorf("got %+v", a)
	}
	td, err := certs.ParseTrustDomain("cloud.example")
	if err != nil {
		t.Fatal(err)
	}
	if a.Identity.Key != filepath.Join(dir, "agent.key") || a.Trust[td].File != filepath.Join(dir, "cloud.pem") {
		t.Errorf("got %+v, %+v, want paths relative to the file", a.Identity, a.Trust)
	}
	tun := a.Tunnels[0]
	if tun.Timeouts != (Timeouts{Dial: 5 * time.Second, Header: 30 * time.Second, Idle: 5 * time.Minute}) || tun.Health != (Health{}) {
		t.Errorf("got %+v", tun)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	dir := folder(t)
	a, err := load(t, dir, fullest)
	if err != nil {
		t.Fatal(err)
	}
	wantLimits := Limits{
		Streams: 10, StreamWindow: 1 << 20, LinkBuffer: 2 << 20, Header: 32 << 10, OpenTimeout: time.Second, Handshake: 2 * time.Second,
	}
	if a.Limits != wantLimits || a.Transport != TransportQUIC || a.Congestion != CongestionBBR || a.LogLevel != slog.LevelWarn {
		t.Errorf("got %+v", a)
	}
	wantProxy := Proxy{URL: "http://proxy.corp:3128", User: "agent", PasswordFile: filepath.Join(dir, "proxy.secret")}
	if *a.Proxy != wantProxy || a.Ops.String() != "127.0.0.1:9091" || a.Control != filepath.Join(dir, "run/agent.sock") {
		t.Errorf("got %+v, %v, %v", a.Proxy, a.Ops, a.Control)
	}
	orders, ledger, queue := a.Tunnels[0], a.Tunnels[1], a.Tunnels[2]
	if orders.Timeouts != (Timeouts{Dial: time.Second, Header: -1, Idle: time.Minute}) || orders.Health.Path != "/healthz" ||
		orders.TLS.ServerName != "orders" || len(orders.Allow.Paths) != 2 || orders.Backend.String() != "https://orders.dc1.example:443" {
		t.Errorf("got %+v", orders)
	}
	if len(ledger.Callers) != 1 || ledger.Backend.HTTP() {
		t.Errorf("got %+v", ledger)
	}
	if queue.Health.Every != 10*time.Second || len(queue.Rules().Networks) != 2 {
		t.Errorf("got %+v", queue)
	}
	if n := orders.Rules().Networks; len(n) != 1 || n[0] != protocol.HTTP {
		t.Errorf("an https tunnel carries %v", n)
	}
}

func TestRulesKeepRawBytesOffASocket(t *testing.T) {
	a, err := load(t, folder(t), strings.Replace(smallest, "http://10.0.0.5:8080", "unix:///run/x.sock\n    allow: {methods: [GET]}", 1))
	if err != nil {
		t.Fatal(err)
	}
	if n := a.Tunnels[0].Rules().Networks; len(n) != 1 || n[0] != protocol.HTTP {
		t.Errorf("got %v, want http alone", n)
	}
}

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
		{"agent.key}}", "agent.key}, workload_api: x}", "identity.workload_api: not supported by this version"},
		{"{svid: {cert: agent.crt, key: agent.key}}", "{enrolled: state}", "identity.enrolled: not supported by this version"},
		{"{svid: {cert: agent.crt, key: agent.key}}", "{}", "identity: expected the key svid"},
		{"cert: agent.crt, ", "", "identity.svid: expected the key cert"},
		{"key: agent.key", "key: open.key", "identity.svid.key: secret file"}, // O01
		{"cert: agent.crt", "cert: nowhere.crt", "identity.svid.cert: expected a file that can be read"},
		{"cert: agent.crt", "cert: .", "is not a regular file"},
		{"bundle: cloud.pem", "endpoint: x", "trust.cloud.example.endpoint: not supported by this version"},
		{"{bundle: cloud.pem}", "{}", "trust.cloud.example: expected the key bundle"},
		{"cloud.example: {", "Cloud.Example: {", "expected a trust domain as key"},
		{"trust: {", "transport: udp\ntrust: {", `transport: expected auto, quic or tcp, got "udp"`},
		{"trust: {", "congestion: cubic\ntrust: {", "congestion: expected auto, bbr or system"},
		{"trust: {", "ops: 0.0.0.0:9091\ntrust: {", "ops: expected a loopback address"},
		{"trust: {", "ops: 10.0.0.1:9091\ntrust: {", "ops: expected a loopback address"},
		{"trust: {", "log_level: loud\ntrust: {", "log_level: expected debug, info, warn or error"},
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
		{"http://10.0.0.5:8080", "udp://10.0.0.5:53", "udp backends are not supported by this version"},
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

func TestTheNameIsTheHostsByDefault(t *testing.T) {
	dir := folder(t)
	text := strings.Replace(smallest, "name: dc1-a\n", "", 1)
	for host, want := range map[string]string{"Edge-1.DC1.example": "edge-1.dc1.example", "my_host": ""} {
		r := &reader{name: "agent.yaml", dir: dir, hostname: func() (string, error) { return host, nil }}
		a, err := r.load([]byte(text))
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "expected the key name") {
				t.Errorf("%s: got %v", host, err)
			}
			continue
		}
		if err != nil || a.Name != want {
			t.Errorf("%s: got %v, %v", host, a, err)
		}
	}
}

func TestTunnelsMustFitOneRegistration(t *testing.T) {
	var b strings.Builder
	b.WriteString(smallest)
	for i := range 250 {
		fmt.Fprintf(&b, "  - {name: %s-%d, backend: http://a}\n", strings.Repeat("x", 58), i)
	}
	if _, err := load(t, folder(t), b.String()); err == nil || !strings.Contains(err.Error(), "tunnels: expected tunnel names that fit") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	dir := folder(f)
	for _, s := range []string{smallest, fullest, "a: &a [*a]", "<<: {}", "? [a]\n: b", "tunnels: [{}]", "---\n---\n", "%YAML 1.2\n---"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &reader{name: "agent.yaml", dir: dir, hostname: func() (string, error) { return "host", nil }}
		a, err := r.load(b)
		faults, ok := errors.AsType[Faults](err)
		switch {
		case (a == nil) == (err == nil):
			t.Fatalf("got %v and %v", a, err)
		case err != nil && (!ok || len(faults) == 0):
			t.Fatalf("got %v, want Faults", err)
		case a != nil && (a.Name == "" || len(a.Tunnels) == 0 || len(a.Relays) == 0 || len(a.RelayID) == 0):
			t.Fatalf("got an incomplete %+v", a)
		}
	})
}
