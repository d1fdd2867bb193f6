//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
)

// A fairlead says how one relay and one agent are to run.
type fairlead struct {
	name      string
	transport string // of the agent
	noLanes   bool
	audited   bool // with an audit, and a quota for the web: everything that a call can be asked for and is remembered of
	asks      bool // the sockets may ask for a congestion control of their own; else they take the hosts'
	doors     int  // raw doors, each of which takes 1,024 connections at most
}

// fairlead starts a relay in the cloud and an agent in the data centre, and waits until calls get through.
func (s *site) fairlead(f fairlead) *variant {
	v := s.relay(f)
	agent := s.write(slug(f.name)+"-agent.yaml", s.agentYAML(f, v))
	v.far = s.start(f.name+" agent", s.dc, nil, s.binary("agent"), "run", "-c", agent)
	s.ready(v.far, v.raw[0])
	return v
}

// relay starts a relay alone.
func (s *site) relay(f fairlead) *variant {
	v := &variant{site: s, name: f.name, web: s.loopback().String(), open: s.loopback().String(), ops: s.loopback().String(),
		hop: s.address(s.cloud.Addr()).String()}
	for range f.doors {
		v.raw = append(v.raw, s.loopback().String())
	}
	file := s.write(slug(f.name)+"-relay.yaml", s.relayYAML(f, v))
	start := func() { v.near = s.start(f.name+" relay", s.cloud, nil, s.binary("relay"), "run", "-c", file) }
	v.restart = func() { v.near.Kill(); start() }
	start()
	s.relayReady(v)
	return v
}

func (s *site) relayReady(v *variant) {
	v.near.Accepts(s.stage, s.cloud, v.raw[0])
	v.near.Ready(s.stage, "be ready", func(ctx context.Context) error { return s.get(ctx, v.ops, "/readyz", nil) })
}

// binary returns the path of the relay's or agent's binary.
func (s *site) binary(half string) string { return filepath.Join(s.bench.bin, "fairlead-"+half) }

// get asks a program on the cloud's host and hands the answer's body to read.
func (s *site) get(ctx context.Context, address, path string, read func(*http.Response) error) error {
	client := &http.Client{Transport: &http.Transport{DialContext: s.cloud.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %s", address, path, response.Status)
	}
	if read == nil {
		return nil
	}
	return read(response)
}

func (s *site) relayYAML(f fairlead, v *variant) string {
	var b strings.Builder
	fmt.Fprintf(&b, `listen: %s
ops: %s
control: %s-relay.sock
state_dir: .
identity: {svid: {cert: relay.crt, key: relay.key}}
trust:
  cloud.example: {bundle: cloud.pem}
  dc1.example: {bundle: dc1.pem}
tokens:
  - {issuer: %s, audiences: [fairlead], jwks: idp.jwks.json, algorithms: [ES256]}
# More than a relay takes by default: all agents and streams of the benchmark come from one address.
limits: {streams_per_session: 20000, sessions_per_agent: 10000, unproved: 10000, unproved_per_source: 10000}
`, v.hop, v.ops, slug(f.name), issuer)
	if !f.asks && s.knows("relay", asSystem) {
		b.WriteString(asSystem + "\n")
	}
	web := []string{"token: {issuer: " + issuer + ", scopes: [bench.read]}",
		`allow: request.method == "GET" && request.path.startsWith("/") && "bench.read" in token.scopes && caller.trust_domain == "cloud.example"`}
	if f.audited {
		fmt.Fprintf(&b, "audit: {file: %s-audit.jsonl}\n", slug(f.name))
		web = append(web, "limits: {rate: 1000000, burst: 1000000, quota: {calls: 1000000000, per: 24h}}")
	}
	b.WriteString("tunnels:\n")
	tunnel := func(name, protocol, door string, more ...string) {
		lines := append([]string{"name: " + name, "protocol: " + protocol, "hosts: [" + name + ".dc1.example]",
			"agents: [spiffe://dc1.example/agent/*]", "callers: [spiffe://cloud.example/api/*]",
			fmt.Sprintf("listen: {address: %q, as: %s}", door, callerID)}, more...)
		b.WriteString("  - " + strings.Join(lines, "\n    ") + "\n")
	}
	for i, door := range v.raw {
		tunnel(fmt.Sprintf("raw%d", i), "tcp", door, "token: none")
	}
	tunnel("open", "http", v.open, "token: none")
	tunnel("web", "http", v.web, web...)
	return b.String()
}

func (s *site) agentYAML(f fairlead, v *variant) string {
	var b strings.Builder
	fmt.Fprintf(&b, `name: %s
relays: [%q]
relay_id: ["spiffe://cloud.example/relay/*"]
transport: %s
control: %[1]s-agent.sock
state_dir: .
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
`, slug(f.name), v.hop, f.transport)
	limits := "streams: 20000"
	if f.noLanes && s.knows("agent", "limits: {lanes: 0}") {
		limits += ", lanes: 0"
	}
	fmt.Fprintf(&b, "limits: {%s}\n", limits)
	if !f.asks && s.knows("agent", asSystem) {
		b.WriteString(asSystem + "\n")
	}
	b.WriteString("tunnels:\n")
	for i := range v.raw {
		fmt.Fprintf(&b, "  - {name: raw%d, backend: \"tcp://%s\"}\n", i, s.raw)
	}
	fmt.Fprintf(&b, "  - {name: open, backend: \"http://%s\"}\n", s.web)
	fmt.Fprintf(&b, "  - {name: web, backend: \"http://%s\", allow: {methods: [GET, HEAD], paths: [\"/**\"]}}\n", s.web)
	return b.String()
}

// asSystem keeps the sockets from asking for a congestion control of their own.
const asSystem = "congestion: system"

// probes are configurations to which a line can be added to see whether a half takes it.
var probes = map[string]string{
	"agent": `name: probe
relays: ["127.0.0.1:1"]
relay_id: ["spiffe://cloud.example/relay/*"]
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
tunnels: [{name: probe, backend: "tcp://127.0.0.1:1"}]
`,
	"relay": `listen: 127.0.0.1:1
identity: {svid: {cert: relay.crt, key: relay.key}}
trust: {cloud.example: {bundle: cloud.pem}}
`,
}

// knows reports whether this relay or agent takes a line of configuration. Where it does not, the results say so.
func (s *site) knows(half, line string) bool {
	file := s.write("probe.yaml", probes[half]+line+"\n")
	if err := s.cloud.Command(s.ctx, s.binary(half), "check", "-c", file).Run(); err != nil {
		s.bench.results.note("this " + half + " does not take " + line + ", which is left out")
		return false
	}
	return true
}
