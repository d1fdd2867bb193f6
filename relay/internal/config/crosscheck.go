package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// crossCheck finds what is wrong between keys that are each right. What was not read is not compared.
func (r *reader) crossCheck(n node, c *Relay) {
	if c.Authority.Relay != "" && c.Identity.Enrolled == "" {
		n.fault("expected identity.enrolled with authority.relay: requests are signed by the SVID that the authority has issued")
	}
	for _, n := range r.issuers {
		if !slices.ContainsFunc(c.Tokens, func(i bearer.Issuer) bool { return i.URL == n.Value }) {
			n.fault("expected one of the issuers in tokens, to the letter")
		}
	}
	for _, n := range r.contracts {
		if !slices.ContainsFunc(c.Tunnels, func(t *tunnel.Tunnel) bool { return string(t.Name) == n.Value }) {
			n.fault("expected the name of a tunnel of this file")
		}
	}
	for _, n := range r.logins {
		if !slices.ContainsFunc(c.Directories, func(d login.DirectoryConfig) bool { return d.Name == n.Value }) {
			n.fault("expected one of the directories")
		}
	}
	for _, n := range r.codes {
		if c.TOTP == "" {
			n.fault("expected the key totp with a file: users' secrets are there")
		}
	}
	for _, n := range r.servers {
		if !slices.ContainsFunc(c.RADIUS, func(s login.RADIUSConfig) bool { return s.Name == n.Value }) {
			n.fault("expected one of the servers of radius")
		}
	}
	r.crossCheckRADIUS(c)
	for i, d := range c.Directories {
		if !slices.ContainsFunc(c.Tunnels, func(t *tunnel.Tunnel) bool { return t.Name == d.Tunnel && t.Network == protocol.TCP }) && d.Tunnel != "" {
			path := fmt.Sprintf("directories[%d].tunnel", i)
			r.fault(r.lines[path], path, "expected the name of a tcp tunnel of this file")
		}
	}
	for id, app := range c.Apps {
		if _, ok := c.Tiers[app.Tier]; app.Tier != "" && !ok {
			n.fault("apps: expected the tier of %s to be one of tiers, got %s", clip(id), clip(app.Tier))
		}
	}
	seen := clashes{}
	for _, t := range c.Tunnels {
		if slices.Contains(t.Hosts, tunnel.Host(c.Authority.BundleHost)) {
			r.fault(r.lines["authority.bundle_host"], "authority.bundle_host", "expected a host that no tunnel has")
		}
	}
	for i, t := range c.Tunnels {
		at := func(key string) string { return fmt.Sprintf("tunnels[%d].%s", i, key) }
		fault := func(key, format string, args ...any) {
			path := at(key)
			for r.lines[path] == 0 && strings.Contains(path, ".") {
				path = path[:strings.LastIndexByte(path, '.')]
			}
			r.fault(r.lines[path], path, format, args...)
		}
		for _, clash := range seen.add(t) {
			fault(clash.key, "%s", clash.message)
		}
		if n.has("trust") && c.Identity.WorkloadAPI+c.Identity.Enrolled == "" { // those bring bundles along
			r.checkTrusted(c, t, fault)
		}
		if t.AuditRequired && !n.has("audit") {
			fault("audit", "expected the key audit with a file: what is required is recorded there")
		}
		if t.ForwardToken && !wantsToken(t) {
			fault("forward_token", "expected a token rule beside it: with token: none there is no token to forward")
		}
		if l := t.Listen; l != nil && !l.As.IsZero() && !t.AnyCaller && len(t.Callers) > 0 && !t.Callers.Match(l.As) {
			fault("listen.as", "expected an identity that callers lets in")
		}
	}
}

// crossCheckRADIUS finds out what a server is spoken to over: its tunnel says.
func (r *reader) crossCheckRADIUS(c *Relay) {
	for i := range c.RADIUS {
		s, path := &c.RADIUS[i], fmt.Sprintf("radius[%d]", i)
		at := slices.IndexFunc(c.Tunnels, func(t *tunnel.Tunnel) bool { return t.Name == s.Tunnel })
		switch {
		case s.Tunnel == "":
		case at < 0 || c.Tunnels[at].Network == protocol.HTTP:
			r.fault(r.lines[path+".tunnel"], path+".tunnel", "expected the name of a tcp or udp tunnel of this file")
		case c.Tunnels[at].Network == protocol.UDP && s.SecretFile == "":
			r.fault(r.lines[path], path, "expected secret_file: plain RADIUS has nothing else")
		case c.Tunnels[at].Network == protocol.TCP && s.ServerName == "":
			r.fault(r.lines[path], path, "expected server_name: RadSec is RADIUS over TLS")
		default:
			s.Network = c.Tunnels[at].Network
		}
	}
}

func wantsToken(t *tunnel.Tunnel) bool {
	for need := range t.Authenticate.Each() {
		if need.Token != nil {
			return true
		}
	}
	return false
}

// checkTrusted wants a bundle for every trust domain that a rule names: without one the rule matches nobody.
func (r *reader) checkTrusted(c *Relay, t *tunnel.Tunnel, fault func(key, format string, args ...any)) {
	for key, patterns := range map[string]certs.Patterns{"agents": t.Agents, "callers": t.Callers} {
		for _, p := range patterns {
			if _, ok := c.Trust[p.TrustDomain()]; !ok {
				fault(key, "expected a trust domain that trust has a bundle for, got %s", p.TrustDomain())
			}
		}
	}
}

// clashes remembers what only one tunnel may have.
type clashes map[string]bool

type clash struct{ key, message string }

func (c clashes) add(t *tunnel.Tunnel) (found []clash) {
	once := func(key, thing, message string) {
		if c[thing] {
			found = append(found, clash{key, message})
		}
		c[thing] = true
	}
	if t.Name != "" {
		once("name", "name "+string(t.Name), "expected a name that no other tunnel has")
	}
	for _, h := range t.Hosts {
		place := fmt.Sprintf("%s %s%s", t.Network, h, t.PathPrefix)
		once("hosts", "at "+place, fmt.Sprintf("expected a place of its own, another tunnel is at %s", place))
	}
	if l := t.Listen; l != nil && l.Socket != "" {
		once("listen.socket", "socket "+l.Socket, "expected a socket that no other tunnel has")
	}
	if l := t.Listen; l != nil && l.Address.IsValid() {
		once("listen.address", "address "+l.Address.String(), "expected an address that no other tunnel has")
	}
	return found
}
