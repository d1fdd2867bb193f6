package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// maxNesting bounds all and any within each other.
const maxNesting = 4

// maxRemember bounds for how long a second factor counts.
const maxRemember = 30 * 24 * time.Hour

// token reads what stands for a single token, or the word none.
func (r *reader) token(n node) *tunnel.Require {
	if n.Kind == yaml.ScalarNode {
		if n.Value != "none" {
			n.fault("expected {issuer: …, scopes: […]}, or the word none, got %s", n.got())
		}
		return nil
	}
	return tunnel.WantToken(r.tokenRule(n))
}

// require reads one proof, or several combined by all or any.
func (r *reader) require(n node, depth int) *tunnel.Require {
	q := new(tunnel.Require)
	if depth > maxNesting {
		n.fault("expected all and any at most %d deep", maxNesting)
		return q
	}
	parts := func(dst *[]*tunnel.Require) func(node) {
		return func(n node) {
			n.list(func(_ int, n node) { *dst = append(*dst, r.require(n, depth+1)) })
		}
	}
	n.mapping(keys{
		"all":   parts(&q.All),
		"any":   parts(&q.Any),
		"token": func(n node) { q.Token = r.tokenRule(n) },
		"svid":  func(n node) { q.SVID = true; n.mapping(keys{}) },
		"app":   func(n node) { q.App = new(tunnel.AppRule); n.mapping(keys{}) },
		"user": func(n node) {
			q.User = new(tunnel.UserRule)
			n.mapping(keys{
				"directory": func(n node) {
					if parsed(&q.User.Directory, "the name of a directory", clientID)(n); q.User.Directory != "" {
						r.logins = append(r.logins, n)
					}
				},
				"groups": entries(&q.User.Groups, "a group", plain),
			}, "directory")
		},
		"totp": func(n node) {
			q.Code = new(tunnel.CodeRule)
			n.mapping(keys{"remember": duration(&q.Code.Remember, 0, maxRemember)})
			r.codes = append(r.codes, n)
		},
		"radius": func(n node) {
			q.Code = new(tunnel.CodeRule)
			n.mapping(keys{
				"remember": duration(&q.Code.Remember, 0, maxRemember),
				"server": func(n node) {
					if parsed(&q.Code.Server, "the name of a RADIUS server", clientID)(n); q.Code.Server != "" {
						r.servers = append(r.servers, n)
					}
				},
			}, "server")
		},
	})
	if n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		n.fault("expected one of the keys all, any, app, radius, svid, token, totp and user")
	}
	return q
}

func (r *reader) tokenRule(n node) *tunnel.TokenRule {
	t := new(tunnel.TokenRule)
	n.mapping(keys{
		"issuer": func(n node) {
			before := len(r.faults)
			if parsed(&t.Issuer, "an issuer of tokens", issuerURL)(n); len(r.faults) == before {
				r.issuers = append(r.issuers, n)
			}
		},
		"scopes": entries(&t.Scopes, "a scope", scope),
		"claims": func(n node) {
			n.each(func(name string, n node) {
				c := tunnel.ClaimRule{Name: name}
				entries(&c.Any, "a value of the claim", plain)(n)
				t.Claims = append(t.Claims, c)
			})
		},
		"bound":   flag(&t.Bound),
		"acr":     entries(&t.ACR, "an authentication context class", scope),
		"amr":     entries(&t.AMR, "an authentication method", scope),
		"max_age": duration(&t.MaxAge, time.Second, 365*24*time.Hour),
	}, "issuer")
	return t
}

// scope checks the scope-token of RFC 6749 §3.3.
func scope(s string) (string, error) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return "", fmt.Errorf("expected visible ASCII without quotes, backslashes and spaces, got %q", clip(s))
		}
	}
	return s, nil
}

func (r *reader) directories(n node, c *Relay) {
	n.list(func(_ int, n node) {
		d := login.DirectoryConfig{Cache: 30 * time.Second}
		n.mapping(keys{
			"name":   parsed(&d.Name, "a name", clientID),
			"tunnel": parsed(&d.Tunnel, "a tunnel's name", protocol.ParseTunnelName),
			"tls": parsed(&d.StartTLS, "ldaps or starttls", func(s string) (bool, error) {
				if s != "ldaps" && s != "starttls" {
					return false, fmt.Errorf("expected ldaps or starttls, got %q", clip(s))
				}
				return s == "starttls", nil
			}),
			"server_name":   parsed(&d.ServerName, "the name in the directory's certificate", plain),
			"ca":            r.path(&d.CA),
			"bind_dn":       parsed(&d.BindDN, "a distinguished name", plain),
			"password_file": r.path(&d.PasswordFile),
			"base":          parsed(&d.Base, "a distinguished name", plain),
			"filter":        parsed(&d.Filter, "a filter with {user}", holding("{user}")),
			"groups": func(n node) {
				n.mapping(keys{"attribute": parsed(&d.GroupAttribute, "an attribute", plain), "base": parsed(&d.GroupBase, "a distinguished name", plain),
					"filter": parsed(&d.GroupFilter, "a filter with {dn}", holding("{dn}"))})
				if n.has("attribute") && n.has("base") || n.has("filter") && !n.has("base") {
					n.fault("expected attribute, or base and filter")
				}
			},
			"cache": duration(&d.Cache, time.Second, 5*time.Minute),
		}, "name", "tunnel", "tls", "server_name", "base")
		if n.has("bind_dn") != n.has("password_file") {
			n.fault("expected bind_dn and password_file together")
		}
		if slices.ContainsFunc(c.Directories, func(o login.DirectoryConfig) bool { return o.Name == d.Name }) {
			n.fault("expected each directory once, %s is there already", clip(d.Name))
			return
		}
		c.Directories = append(c.Directories, d)
	})
}

func (r *reader) radius(n node, c *Relay) {
	n.list(func(_ int, n node) {
		var s login.RADIUSConfig
		n.mapping(keys{
			"name":        parsed(&s.Name, "a name", clientID),
			"tunnel":      parsed(&s.Tunnel, "a tunnel's name", protocol.ParseTunnelName),
			"secret_file": r.path(&s.SecretFile),
			"server_name": parsed(&s.ServerName, "the name in the server's certificate", plain),
			"ca":          r.path(&s.CA),
			"cert":        r.path(&s.Cert),
			"key":         r.path(&s.Key),
		}, "name", "tunnel")
		if n.has("cert") != n.has("key") {
			n.fault("expected cert and key together")
		}
		if slices.ContainsFunc(c.RADIUS, func(o login.RADIUSConfig) bool { return o.Name == s.Name }) {
			n.fault("expected each server once, %s is there already", clip(s.Name))
			return
		}
		c.RADIUS = append(c.RADIUS, s)
	})
}

func holding(part string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !strings.Contains(s, part) {
			return "", fmt.Errorf("expected a filter with %s in it, got %q", part, clip(s))
		}
		return s, nil
	}
}

func (r *reader) apps(n node, c *Relay) {
	c.Apps = authn.Apps{}
	n.list(func(_ int, n node) {
		app := new(authn.App)
		n.mapping(keys{
			"id":      parsed(&app.ID, "a client id", clientID),
			"secrets": entries(&app.Secrets, "sha256: and the hash of a secret", secretHash),
			"tunnels": func(n node) {
				entries(&app.Tunnels, "a tunnel's name", protocol.ParseTunnelName)(n)
				for _, entry := range n.Content {
					r.contracts = append(r.contracts, node{Node: entry, path: n.path, r: r})
				}
			},
			"tier": parsed(&app.Tier, "the name of a tier", clientID),
		}, "id", "secrets", "tunnels")
		if c.Apps[app.ID] != nil {
			n.fault("expected each app once, %s is there already", clip(app.ID))
			return
		}
		c.Apps[app.ID] = app
	})
}

// clientID checks a name: what a header and a log line can show.
func clientID(s string) (string, error) {
	if len(s) > 128 || strings.Contains(s, ":") {
		return "", fmt.Errorf("expected a name of at most 128 characters without colons, got %q", clip(s))
	}
	return scope(s)
}

func secretHash(s string) (sum [sha256.Size]byte, err error) {
	text, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != sha256.Size {
		return sum, fmt.Errorf("expected sha256: and 64 hexadecimal digits, as `fairlead-relay app secret` prints them")
	}
	return [sha256.Size]byte(b), nil
}
