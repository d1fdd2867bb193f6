package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/federation"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/certs/workloadsource"
	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

func (r *reader) relay(n node) *Relay {
	c := &Relay{
		Ops:          netip.MustParseAddrPort("127.0.0.1:9090"),
		Control:      defaultControl,
		StateDir:     defaultStateDir,
		Congestion:   socket.Auto,
		Trust:        map[certs.TrustDomain]sources.Bundle{},
		DrainTimeout: time.Minute,
		Limits:       defaultLimits(),
		file:         r.name,
		lines:        r.lines,
	}
	n.mapping(keys{
		"listen":    address(&c.Listen),
		"advertise": later,
		"proxy_protocol": func(n node) {
			n.mapping(keys{"from": entries(&c.ProxyProtocol, "a network such as 10.0.0.0/8", prefix)}, "from")
		},
		"congestion":         parsed(&c.Congestion, "auto, bbr or system", congestion),
		"ops":                address(&c.Ops),
		"control":            r.path(&c.Control),
		"state_dir":          r.path(&c.StateDir),
		"identity":           func(n node) { r.identity(n, c) },
		"server_certificate": func(n node) { c.ServerCertificate = r.keyPair(n) },
		"authority":          func(n node) { r.authority(n, &c.Authority) },
		"trust":              func(n node) { r.trust(n, c) },
		"tokens":             func(n node) { r.tokens(n, c) },
		"directories":        func(n node) { r.directories(n, c) },
		"radius":             func(n node) { r.radius(n, c) },
		"totp":               r.path(&c.TOTP),
		"tiers":              func(n node) { r.tiers(n, c) },
		"trusted_proxies":    count(&c.TrustedProxies, 0, 16),
		"apps":               func(n node) { r.apps(n, c) },
		"drain_timeout":      duration(&c.DrainTimeout, 0, time.Hour),
		"limits":             func(n node) { r.limits(n, &c.Limits) },
		"tunnels":            func(n node) { r.tunnels(n, c) },
		"console":            later,
		"require_pq":         flag(&c.RequirePQ),
		"audit":              func(n node) { r.audit(n, &c.Audit) },
		"cluster":            later,
	}, "listen", "identity")
	if n.Kind == yaml.MappingNode && !n.has("trust") && c.Identity.WorkloadAPI+c.Identity.Enrolled == "" {
		n.fault("expected the key trust")
	}
	if n.Kind == yaml.MappingNode {
		r.crossCheck(n, c)
	}
	return c
}

func congestion(s string) (socket.Congestion, error) {
	switch c := socket.Congestion(s); c {
	case socket.Auto, socket.BBR, socket.System:
		return c, nil
	}
	return "", fmt.Errorf("expected auto, bbr or system, got %q", clip(s))
}

func prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() {
		return p, fmt.Errorf("expected a network such as 10.0.0.0/8, got %q", clip(s))
	}
	return p, nil
}

func (r *reader) identity(n node, c *Relay) {
	n.mapping(keys{
		"svid": func(n node) {
			if pair := r.keyPair(n); pair != nil {
				c.Identity.KeyPair = *pair
			}
		},
		"workload_api": parsed(&c.Identity.WorkloadAPI, "the address of the SPIFFE Workload API", workloadAPI),
		"enrolled":     r.path(&c.Identity.Enrolled),
	})
	if n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		n.fault("expected one of the keys svid, workload_api and enrolled")
	}
}

func (r *reader) audit(n node, a *Audit) {
	a.Rotate = 100 << 20
	n.mapping(keys{
		"file":   r.path(&a.File),
		"rotate": size(&a.Rotate, 64<<10, 1<<40),
		"keep":   count(&a.Keep, 0, 100_000),
		"claims": entries(&a.Claims, "a claim", plain),
	}, "file")
}

func (r *reader) authority(n node, a *Authority) {
	n.mapping(keys{
		"socket": r.path(&a.Socket),
		"relay":  parsed(&a.Relay, "host:port of a relay", hostPort),
		"bundle_host": parsed(&a.BundleHost, "a host name", func(s string) (string, error) {
			h, err := tunnel.ParseHost(s)
			return string(h), err
		}),
	})
	if n.Kind == yaml.MappingNode && n.has("socket") == n.has("relay") {
		n.fault("expected one of the keys socket and relay")
	}
	if n.has("bundle_host") && !n.has("socket") {
		n.fault("expected the key socket beside bundle_host")
	}
}

func hostPort(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if v, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || v == 0 || host == "" {
		return "", fmt.Errorf("expected host:port of a relay, got %q", clip(s))
	}
	return s, nil
}

func workloadAPI(s string) (string, error) { return s, workloadsource.CheckAddress(s) }

func (r *reader) keyPair(n node) *KeyPair {
	pair := new(KeyPair)
	n.mapping(keys{"cert": r.path(&pair.Cert), "key": r.path(&pair.Key)}, "cert", "key")
	return pair
}

func (r *reader) trust(n node, c *Relay) {
	n.each(func(key string, n node) {
		td, err := certs.ParseTrustDomain(key)
		if err != nil {
			n.fault("%v", err)
			return
		}
		var file string
		var e federation.Endpoint
		n.mapping(keys{
			"bundle":      r.path(&file),
			"endpoint":    parsed(&e.URL, "an https URL", func(s string) (string, error) { return s, nil }),
			"profile":     parsed(&e.Profile, "https_web or https_spiffe", func(s string) (federation.Profile, error) { return federation.Profile(s), nil }),
			"endpoint_id": parsed(&e.ID, "the endpoint's SPIFFE ID", certs.ParseID),
			"ca":          r.path(&e.CA),
		})
		switch {
		case n.Kind != yaml.MappingNode:
		case n.has("endpoint"):
			e.Bootstrap = file
			if err := e.Check(td); err != nil {
				n.fault("%v", err)
			}
			c.Trust[td] = sources.Bundle{Endpoint: e}
			return
		case !n.has("bundle"):
			n.fault("expected the key bundle or endpoint")
		case n.has("profile") || n.has("endpoint_id") || n.has("ca"):
			n.fault("expected the key endpoint beside profile, endpoint_id and ca")
		}
		c.Trust[td] = sources.Bundle{File: file}
	})
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		n.fault("expected at least one trust domain")
	}
}

func (r *reader) tokens(n node, c *Relay) {
	n.list(func(_ int, n node) {
		var iss bearer.Issuer
		n.mapping(keys{
			"issuer":        parsed(&iss.URL, "the issuer's URL, to the letter", issuerURL),
			"audiences":     entries(&iss.Audiences, "an audience", plain),
			"jwks":          func(n node) { r.jwks(n, &iss.JWKS) },
			"algorithms":    entries(&iss.Algorithms, "an algorithm", algorithm),
			"introspection": func(n node) { iss.Introspection = r.introspection(n) },
		}, "issuer", "audiences")
		if iss.URL != "" && slices.ContainsFunc(c.Tokens, func(o bearer.Issuer) bool { return o.URL == iss.URL }) {
			n.fault("expected each issuer once, %s is there already", clip(iss.URL))
			return
		}
		c.Tokens = append(c.Tokens, iss)
	})
}

func (r *reader) introspection(n node) *bearer.Introspection {
	i := new(bearer.Introspection)
	n.mapping(keys{
		"url":         parsed(&i.URL, "the endpoint's URL", keysURL),
		"client_id":   parsed(&i.ClientID, "a client id", clientID),
		"secret_file": r.path(&i.SecretFile),
		"ca":          r.path(&i.CA),
		"cache":       duration(&i.Cache, time.Second, 10*time.Minute),
	}, "url", "client_id", "secret_file")
	return i
}

// jwks takes a URL or a path. Both are opened later; package bearer also refuses URLs over plain http.
func (r *reader) jwks(n node, dst *string) {
	if strings.Contains(n.Value, "://") {
		parsed(dst, "a URL", keysURL)(n)
		return
	}
	r.path(dst)(n)
}

func issuerURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || len(s) > 2048 {
		return "", fmt.Errorf("expected the issuer's URL, to the letter, such as https://idp.example")
	}
	return s, nil
}

func keysURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("expected a file or an https URL without user and password")
	}
	return s, nil
}

func algorithm(s string) (string, error) {
	if !slices.Contains(bearer.Algorithms(), s) {
		return "", fmt.Errorf("expected one of %s, got %q", strings.Join(bearer.Algorithms(), ", "), clip(s))
	}
	return s, nil
}
