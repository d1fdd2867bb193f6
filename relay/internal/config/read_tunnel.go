package config

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/limit"
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
		"protocol":      parsed(&t.Network, "http, tcp or udp", network),
		"hosts":         entries(&t.Hosts, "a host name", tunnel.ParseHost),
		"path":          parsed(&t.PathPrefix, "a path", tunnel.ParsePrefix),
		"agents":        patterns(&t.Agents),
		"callers":       func(n node) { r.callers(n, t) },
		"token":         func(n node) { t.Authenticate = r.token(n) },
		"authenticate":  func(n node) { t.Authenticate = r.require(n, 0) },
		"allow":         parsed(&t.Allow, "an expression", plain),
		"forward_token": flag(&t.ForwardToken),
		"sources":       entries(&t.Sources, "a network such as 10.0.0.0/8", prefix),
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
	if t.Network == protocol.UDP && t.Listen != nil {
		n.fault("expected no listen: a udp tunnel has no door, `connect --udp` is one")
	}
	if t.Network == protocol.TCP || t.Network == protocol.UDP {
		for key, why := range map[string]string{
			"path":          "a CONNECT and a UDP flow have no path",
			"forward_token": "there is nowhere to put it in a connection or flow",
			"limits.body":   "only a request has a body",
			"limits.json":   "only a request has a body",
			"limits.xml":    "only a request has a body",
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
		return 0, fmt.Errorf("expected http, tcp or udp, got %q", clip(s))
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
	t.Per = tunnel.PerCaller
	quota := keys{
		"body":       size(&t.Body, 0, math.MaxInt64),
		"timeout":    duration(&t.Timeout, time.Millisecond, maxTimeout),
		"concurrent": count(&t.Concurrent, 0, maxConcurrent),
		"per": parsed(&t.Per, "caller, app, user, source or tunnel", func(s string) (tunnel.Party, error) {
			switch p := tunnel.Party(s); p {
			case tunnel.PerCaller, tunnel.PerApp, tunnel.PerUser, tunnel.PerSource, tunnel.PerTunnel:
				return p, nil
			}
			return "", fmt.Errorf("expected caller, app, user, source or tunnel, got %q", clip(s))
		}),
		"spike": func(n node) {
			t.Spike.Wait = time.Second
			n.mapping(keys{"rate": perSecond(&t.Spike.Rate), "queue": count(&t.Spike.Queue, 0, 100_000), "wait": duration(&t.Spike.Wait, 0, time.Minute)}, "rate", "queue")
		},
		"json": func(n node) {
			t.JSON = &limit.JSON{Depth: 64, Keys: 100_000, String: 1 << 20}
			n.mapping(keys{"depth": count(&t.JSON.Depth, 1, 10_000), "keys": count(&t.JSON.Keys, 1, 100_000_000), "string": size(&t.JSON.String, 1, 1<<40)})
		},
		"xml": func(n node) {
			t.XML = &limit.XML{Depth: 64, Token: 1 << 20}
			n.mapping(keys{"depth": count(&t.XML.Depth, 1, 10_000), "token": size(&t.XML.Token, 1<<10, 64<<20)})
		},
	}
	maps.Copy(quota, quotaKeys(&t.Quota))
	n.mapping(quota)
	checkQuota(n, &t.Quota)
	if n.has("per") && t.Quota.None() {
		n.fault("expected rate or quota beside per")
	}
}

// quotaKeys are the keys of a quota, which stand in a tunnel's limits and in a tier.
func quotaKeys(q *limit.Quota) keys {
	return keys{
		"rate":  perSecond(&q.Rate),
		"burst": count(&q.Burst, 1, maxConcurrent),
		"quota": func(n node) {
			n.mapping(keys{"calls": size(&q.Calls, 1, 1<<40), "per": duration(&q.Per, time.Second, 366*24*time.Hour)}, "calls", "per")
		},
	}
}

func checkQuota(n node, q *limit.Quota) {
	switch {
	case q.Rate == 0 && n.has("burst"):
		n.fault("expected rate beside burst")
	case q.Rate > 0 && q.Burst == 0:
		q.Burst = max(1, int(math.Ceil(q.Rate)))
	}
}

// perSecond sets dst to a number of calls a second.
func perSecond(dst *float64) func(node) {
	return parsed(dst, "calls a second", func(s string) (float64, error) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0.001 && v <= maxConcurrent) {
			return 0, fmt.Errorf("expected calls a second, from 0.001 to %d, got %q", maxConcurrent, clip(s))
		}
		return v, nil
	})
}

func (r *reader) tiers(n node, c *Relay) {
	c.Tiers = map[string]limit.Quota{}
	n.each(func(name string, n node) {
		var q limit.Quota
		n.mapping(quotaKeys(&q))
		checkQuota(n, &q)
		if n.Kind == yaml.MappingNode && q.None() {
			n.fault("expected rate, quota or both")
		}
		c.Tiers[name] = q
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
