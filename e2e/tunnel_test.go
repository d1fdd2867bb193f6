//go:build linux

package e2e

import (
	"fmt"
	"strings"
)

// A tunnel is what both sides' files say of it. What is left out has the value given.
type tunnel struct {
	name     string // its host is name.dc1.example
	protocol string // http
	backend  string // a URL
	callers  string // [spiffe://cloud.example/api/*]
	token    string // {issuer: https://idp.example, scopes: [name.use]}
	proofs   string // authenticate, in place of token
	relay    string // more keys in the relay's file, as lines of YAML
	agent    string // more keys in the agent's file, likewise
}

func (u tunnel) host() string { return u.name + ".dc1.example" }

func (u tunnel) scope() string { return u.name + ".use" }

// inRelay returns the tunnel's entry in relay.yaml.
func (u tunnel) inRelay() string {
	proofs := "token: " + or(u.token, fmt.Sprintf("{issuer: %s, scopes: [%s]}", issuerURL, u.scope()))
	if u.proofs != "" {
		proofs = "authenticate: " + u.proofs
	}
	return entry(u.relay,
		"name: "+u.name,
		"protocol: "+or(u.protocol, "http"),
		"hosts: ["+u.host()+"]",
		"agents: [spiffe://dc1.example/agent/*]",
		"callers: "+or(u.callers, "[spiffe://cloud.example/api/*]"),
		proofs,
	)
}

// inAgent returns the tunnel's entry in agent.yaml.
func (u tunnel) inAgent() string {
	return entry(u.agent, "name: "+u.name, "backend: "+u.backend)
}

// entry returns an element of a YAML list of mappings.
func entry(more string, lines ...string) string {
	if more != "" {
		lines = append(lines, strings.Split(strings.TrimSpace(more), "\n")...)
	}
	return "  - " + strings.Join(lines, "\n    ") + "\n"
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
