package config

import (
	"errors"
	"fmt"
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
congestion: system
proxy: {url: http://proxy.corp:3128, user: agent, password_file: proxy.secret}
ops: 127.0.0.1:9091
control: run/agent.sock
state_dir: /var/lib/fairlead-agent
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
limits: {lanes: 8, streams: 10, stream_window: 1MiB, link_buffer: 2MiB, header: 32KiB, open_timeout: 1s, handshake: 2s}
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
	if a.Transport != TransportAuto || a.Proxy != nil || a.Ops.IsValid() || a.Control != "" ||
		a.Limits != defaultLimits() {
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
		Lanes: 8, Streams: 10, StreamWindow: 1 << 20, LinkBuffer: 2 << 20, Header: 32 << 10, OpenTimeout: time.Second, Handshake: 2 * time.Second,
	}
	if a.Limits != wantLimits || a.Transport != TransportQUIC || a.Congestion != "system" {
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
