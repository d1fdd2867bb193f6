package config

import (
	"fmt"
	"math"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// maxConcurrent bounds limits.concurrent: more calls than one relay can have.
const maxConcurrent = 10_000_000

// maxTimeout bounds limits.timeout; it crosses the wire as 32 bits of milliseconds.
const maxTimeout = 24 * time.Hour

func (r *reader) tunnels(n node, c *Relay) {
	n.list(func(_ int, n node) { c.Tunnels = append(c.Tunnels, r.tunnel(n)) })
}

func (r *reader) tunnel(n node) *tunnel.Tunnel {
	t := &tunnel.Tunnel{Timeout: 30 * time.Second}
	n.mapping(keys{
		"name":          parsed(&t.Name, "a name", protocol.ParseTunnelName),
		"protocol":      parsed(&t.Network, "http or tcp", network),
		"hosts":         entries(&t.Hosts, "a host name", tunnel.ParseHost),
		"path":          parsed(&t.PathPrefix, "a path", tunnel.ParsePrefix),
		"agents":        patterns(&t.Agents),
		"callers":       func(n node) { r.callers(n, t) },
		"token":         func(n node) { t.Authenticate = r.token(n) },
		"authenticate":  func(n node) { t.Authenticate = r.require(n, 0) },
		"allow":         parsed(&t.Allow, "an expression", plain),
		"forward_token": flag(&t.ForwardToken),
		"limits":        func(n node) { r.tunnelLimits(n, t) },
		"audit": parsed(&t.AuditRequired, "required or best_effort", func(s string) (bool, error) {
			if s != "required" && s != "best_effort" {
				return false, fmt.Errorf("expected required or best_effort, got %q", clip(s))
			}
			return s == "required", nil
		}),
		"listen":      func(n node) { r.door(n, t) },
		"wait":        later,
		"retry":       later,
		"max_session": later,
	}, "name", "protocol", "hosts", "agents", "callers")
	if n.Kind == yaml.MappingNode && n.has("token") == n.has("authenticate") {
		n.fault("expected one of the keys token and authenticate")
	}
	if t.Network == protocol.TCP {
		for key, why := range map[string]string{
			"path":          "a CONNECT has no path",
			"forward_token": "there is nowhere to put it in a TCP connection",
			"limits.body":   "a TCP connection has no body",
		} {
			if line, ok := r.lines[join(n.path, key)]; ok {
				r.fault(line, join(n.path, key), "expected on http tunnels only: %s", why)
			}
		}
	}
	return t
}

func network(s string) (protocol.Network, error) {
	switch n, err := protocol.ParseNetwork(s); {
	case err != nil:
		return 0, fmt.Errorf("expected http or tcp, got %q", clip(s))
	case n == protocol.UDP:
		return 0, fmt.Errorf("udp is not supported by this version")
	default:
		return n, nil
	}
}

func (r *reader) callers(n node, t *tunnel.Tunnel) {
	if n.Kind == yaml.ScalarNode {
		if n.Value != "any" {
			n.fault("expected a list of SPIFFE ID patterns, or the word any, got %s", n.got())
		}
		t.AnyCaller = true
		return
	}
	patterns(&t.Callers)(n)
}

func (r *reader) tunnelLimits(n node, t *tunnel.Tunnel) {
	n.mapping(keys{
		"body":       size(&t.Body, 0, math.MaxInt64),
		"timeout":    duration(&t.Timeout, time.Millisecond, maxTimeout),
		"concurrent": count(&t.Concurrent, 0, maxConcurrent),
		"rate":       later,
		"burst":      later,
	})
}

func (r *reader) door(n node, t *tunnel.Tunnel) {
	l := new(tunnel.Listen)
	n.mapping(keys{
		"socket":  r.path(&l.Socket),
		"address": loopback(&l.Address),
		"as":      parsed(&l.As, "a SPIFFE ID", certs.ParseID),
	}, "as")
	if n.Kind == yaml.MappingNode && n.has("socket") == n.has("address") {
		n.fault("expected one of the keys socket and address")
	}
	t.Listen = l
}
