package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/federation"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/certs/workloadsource"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

func (r *reader) agent(n node) *Agent {
	a := &Agent{
		Transport: TransportAuto, Congestion: socket.Auto, Trust: map[certs.TrustDomain]sources.Bundle{}, Limits: defaultLimits(),
	}
	n.mapping(keys{
		"name":       func(n node) { r.agentName(n, &a.Name) },
		"relays":     func(n node) { r.relays(n, a) },
		"relay_id":   patterns(&a.RelayID),
		"transport":  oneOf(&a.Transport, TransportAuto, TransportQUIC, TransportTCP),
		"congestion": oneOf(&a.Congestion, socket.Auto, socket.BBR, socket.System),
		"proxy":      func(n node) { a.Proxy = r.proxy(n) },
		"ops":        func(n node) { r.ops(n, a) },
		"control":    func(n node) { r.path(n, &a.Control) },
		"state_dir":  func(n node) { r.path(n, &a.StateDir) },
		"identity":   func(n node) { r.identity(n, a) },
		"require_pq": flag(&a.RequirePQ),
		"trust":      func(n node) { r.trust(n, a) },
		"tokens":     func(n node) { r.tokens(n, a) },
		"jwks_file":  func(n node) { r.path(n, &a.JWKSFile) },
		"audit":      func(n node) { r.audit(n, &a.Audit) },
		"limits":     func(n node) { r.limits(n, &a.Limits) },
		"tunnels":    func(n node) { r.tunnels(n, a) },
	}, "relays", "relay_id", "identity", "tunnels")
	if n.Kind == yaml.MappingNode && !n.has("trust") && a.Identity.WorkloadAPI+a.Identity.Enrolled == "" {
		n.fault("expected the key trust")
	}
	if !n.has("name") {
		r.defaultName(n, a)
	}
	r.trusted(n, a)
	r.checkIssuers(a)
	for _, n := range r.required {
		if a.Audit.File == "" {
			n.fault("expected the key audit with a file: what is required is recorded there")
		}
	}
	return a
}

func (r *reader) agentName(n node, dst *string) {
	s, ok := n.text("a name")
	if !ok {
		return
	}
	if err := protocol.CheckAgentName(s); err != nil {
		n.fault("%v", err)
		return
	}
	*dst = s
}

func (r *reader) defaultName(n node, a *Agent) {
	host, err := r.hostname()
	host = strings.ToLower(host)
	if err == nil {
		err = protocol.CheckAgentName(host)
	}
	if err != nil {
		n.fault("expected the key name, since the host's name cannot stand in for it: %v", err)
		return
	}
	a.Name = host
}

func (r *reader) relays(n node, a *Agent) {
	n.list(func(_ int, n node) {
		s, ok := n.text("host:port of a relay")
		if !ok {
			return
		}
		if err := checkHostPort(s); err != nil {
			n.fault("expected host:port of a relay, got %s", n.got())
			return
		}
		if slices.Contains(a.Relays, s) {
			n.fault("expected each relay once, got %s again", n.got())
			return
		}
		a.Relays = append(a.Relays, s)
	})
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return err
	}
	if v, err := strconv.ParseUint(port, 10, 16); err != nil || v == 0 {
		return fmt.Errorf("expected a port of 1 to 65535, got %q", port)
	}
	if host == "" || strings.ContainsAny(host, "/@?#%*[] \t\r\n") {
		return fmt.Errorf("expected a host, got %q", host)
	}
	return nil
}

func patterns(dst *certs.Patterns) func(node) {
	return func(n node) {
		n.list(func(_ int, n node) {
			s, ok := n.text("a SPIFFE ID or pattern, as spiffe://cloud.example/relay/*")
			if !ok {
				return
			}
			p, err := certs.ParsePattern(s)
			if err != nil {
				n.fault("expected a SPIFFE ID or pattern: %v", err)
				return
			}
			*dst = append(*dst, p)
		})
	}
}

func (r *reader) proxy(n node) *Proxy {
	p := &Proxy{}
	n.mapping(keys{
		"url":           func(n node) { proxyURL(n, &p.URL) },
		"user":          func(n node) { p.User, _ = n.text("a user name") },
		"password_file": func(n node) { r.secretFile(n, &p.PasswordFile) },
	}, "url")
	if p.User == "" != (p.PasswordFile == "") && n.has("user") != n.has("password_file") {
		n.fault("expected user and password_file together")
	}
	return p
}

func proxyURL(n node, dst *string) {
	const what = "http://host:port or socks5://host:port, without credentials or path"
	s, ok := n.text(what)
	if !ok {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "socks5" || u.User != nil || u.Opaque != "" ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || checkHostPort(u.Host) != nil {
		n.fault("expected %s", what) // the value may hold a password
		return
	}
	*dst = u.Scheme + "://" + u.Host
}

func (r *reader) ops(n node, a *Agent) {
	s, ok := n.text("a loopback address and port, as 127.0.0.1:9091")
	if !ok {
		return
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		n.fault("expected a loopback address and port, as 127.0.0.1:9091, got %s", n.got())
		return
	}
	a.Ops = ap
}

func (r *reader) identity(n node, a *Agent) {
	n.mapping(keys{
		"svid": func(n node) {
			n.mapping(keys{
				"cert": func(n node) { r.file(n, &a.Identity.Cert) },
				"key":  func(n node) { r.secretFile(n, &a.Identity.Key) },
			}, "cert", "key")
		},
		"workload_api": func(n node) { workloadAPI(n, &a.Identity.WorkloadAPI) },
		"enrolled":     func(n node) { r.path(n, &a.Identity.Enrolled) },
	})
	if n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		n.fault("expected one of the keys svid, workload_api and enrolled")
	}
}

func flag(dst *bool) func(node) {
	return func(n node) {
		switch s, ok := n.text("true or false"); {
		case !ok:
		case s == "true" || s == "false":
			*dst = s == "true"
		default:
			n.fault("expected true or false, got %s", n.got())
		}
	}
}

func workloadAPI(n node, dst *string) {
	s, ok := n.text("the address of the SPIFFE Workload API")
	if !ok {
		return
	}
	if err := workloadsource.CheckAddress(s); err != nil {
		n.fault("%v", err)
		return
	}
	*dst = s
}

func (r *reader) trust(n node, a *Agent) {
	n.each(func(key string, n node) {
		td, err := certs.ParseTrustDomain(key)
		if err != nil {
			n.fault("expected a trust domain as key: %v", err)
			return
		}
		a.Trust[td] = r.bundle(n, td)
	})
}

// bundle reads where one bundle comes from.
func (r *reader) bundle(n node, td certs.TrustDomain) (b sources.Bundle) {
	var e federation.Endpoint
	n.mapping(keys{
		"bundle":   func(n node) { r.file(n, &b.File) },
		"endpoint": func(n node) { e.URL, _ = n.text("an https URL") },
		"profile": func(n node) {
			word, _ := n.text("https_web or https_spiffe")
			e.Profile = federation.Profile(word)
		},
		"endpoint_id": func(n node) {
			s, ok := n.text("the endpoint's SPIFFE ID")
			if id, err := certs.ParseID(s); err == nil {
				e.ID = id
			} else if ok {
				n.fault("expected the endpoint's SPIFFE ID: %v", err)
			}
		},
		"ca": func(n node) { r.file(n, &e.CA) },
	})
	switch {
	case n.Kind != yaml.MappingNode:
	case n.has("endpoint"):
		e.Bootstrap, b = b.File, sources.Bundle{}
		if err := e.Check(td); err != nil {
			n.fault("%v", err)
		}
		b.Endpoint = e
	case !n.has("bundle"):
		n.fault("expected the key bundle or endpoint")
	case n.has("profile") || n.has("endpoint_id") || n.has("ca"):
		n.fault("expected the key endpoint beside profile, endpoint_id and ca")
	}
	return b
}

// trusted checks that every relay of relay_id could prove itself.
func (r *reader) trusted(n node, a *Agent) {
	if !n.has("trust") || a.Identity.WorkloadAPI+a.Identity.Enrolled != "" { // these bring bundles along
		return
	}
	for _, p := range a.RelayID {
		if _, ok := a.Trust[p.TrustDomain()]; !ok {
			n.fault("trust: expected a bundle for %s, which relay_id names", p.TrustDomain().Name())
		}
	}
}

func (r *reader) audit(n node, a *Audit) {
	rotate := 100 << 20
	n.mapping(keys{
		"file":   func(n node) { r.path(n, &a.File) },
		"rotate": size(&rotate, 64<<10, 1<<40),
		"keep":   count(&a.Keep, 0, 100_000),
	}, "file")
	a.Rotate = int64(rotate)
}

func (r *reader) limits(n node, l *Limits) {
	n.mapping(keys{
		"lanes":         count(&l.Lanes, 0, 64),
		"streams":       count(&l.Streams, 1, 1_000_000),
		"stream_window": size(&l.StreamWindow, 256<<10, 1<<30),
		"link_buffer":   size(&l.LinkBuffer, 1<<20, 1<<36),
		"header":        size(&l.Header, 4<<10, 1<<20),
		"open_timeout":  duration(&l.OpenTimeout, 100*time.Millisecond, time.Minute),
		"handshake":     duration(&l.Handshake, 100*time.Millisecond, time.Minute),
	})
}

// path sets dst to a path that need not exist, made absolute.
func (r *reader) path(n node, dst *string) bool {
	s, ok := n.text("a path")
	if !ok {
		return false
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(r.dir, s)
	}
	*dst = filepath.Clean(s)
	return true
}

// file sets dst to the path of a file that can be read.
func (r *reader) file(n node, dst *string) bool {
	if !r.path(n, dst) {
		return false
	}
	info, err := os.Stat(*dst)
	if err == nil && !info.Mode().IsRegular() {
		n.fault("expected a file that can be read: %s is not a regular file", *dst)
		return false
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(*dst) // only now: opening a FIFO would wait for its writer
	}
	if err != nil {
		n.fault("expected a file that can be read: %v", err)
		return false
	}
	f.Close()
	return true
}
