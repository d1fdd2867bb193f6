package config

import (
	"net/url"
	"strings"
	"time"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/protocol"
)

// maxSoftware is the room that Hello keeps for the software's name, whatever its length.
const maxSoftware = 256

func (r *reader) tunnels(n node, a *Agent) {
	seen := map[protocol.TunnelName]string{}
	n.list(func(_ int, n node) {
		t := r.tunnel(n)
		if first, dup := seen[t.Name]; dup && t.Name != "" {
			n.fault("expected each tunnel once, %s has the name %s already", first, t.Name)
			return
		}
		seen[t.Name] = n.path
		a.Tunnels = append(a.Tunnels, t)
	})
	hello := &protocol.Hello{
		MinVersion: protocol.MinVersion, MaxVersion: protocol.MaxVersion, Epoch: 1, Slot: 1,
		Agent: strings.Repeat("a", protocol.MaxAgentName), Software: strings.Repeat("a", maxSoftware),
	}
	for _, t := range a.Tunnels {
		hello.Tunnels, hello.Tokens = append(hello.Tunnels, t.Name), append(hello.Tokens, t.Name) // whether it wants them now or after a reload
	}
	if _, err := protocol.Append(nil, hello); err != nil {
		n.fault("expected tunnel names that fit one registration of %d bytes together, got %d tunnels",
			protocol.MaxControlPayload, len(a.Tunnels))
	}
}

func (r *reader) tunnel(n node) Tunnel {
	t := Tunnel{Timeouts: defaultTimeouts()}
	n.mapping(keys{
		"name":     func(n node) { tunnelName(n, &t.Name) },
		"backend":  func(n node) { address(n, &t.Backend) },
		"health":   func(n node) { health(n, &t.Health) },
		"allow":    func(n node) { allow(n, &t.Allow) },
		"callers":  patterns(&t.Callers),
		"token":    func(n node) { r.tokenRule(n, &t) },
		"identify": func(n node) { identify(n, &t.Identify) },
		"audit":    func(n node) { r.auditRequired(n, &t) },
		"tls":      func(n node) { r.tls(n, &t.TLS) },
		"timeouts": func(n node) { timeouts(n, &t.Timeouts) },
	}, "name", "backend")
	if t.Backend == (backend.Address{}) {
		return t
	}
	if n.has("allow") && !t.Backend.HTTP() {
		n.fault("expected allow only with an HTTP backend: %s carries bytes", t.Backend)
	}
	if n.has("tls") && !t.Backend.TLS() {
		n.fault("expected tls only with an https or tls backend, got %s", t.Backend)
	}
	if i := t.Identify; (i.TxnToken != "" || i.Headers) && !t.Backend.HTTP() {
		n.fault("expected identify.txn_token and identify.headers only with an HTTP backend, got %s", t.Backend)
	}
	if t.Identify.ProxyProtocol && t.Backend.HTTP() {
		n.fault("expected identify.proxy_protocol only with a tcp or tls backend, whose connections have one caller each, got %s", t.Backend)
	}
	if t.Health.Path != "" && !t.Backend.HTTP() {
		n.fault("expected health.path only with an HTTP backend, got %s", t.Backend)
	}
	return t
}

func identify(n node, i *Identify) {
	n.mapping(keys{
		"txn_token": func(n node) {
			n.mapping(keys{"audience": func(n node) { i.TxnToken, _ = n.text("the trust domain that takes the token") }}, "audience")
		},
		"headers": flag(&i.Headers),
		"proxy_protocol": func(n node) {
			word := ""
			oneOf(&word, "v2")(n)
			i.ProxyProtocol = word != ""
		},
	})
}

func (r *reader) auditRequired(n node, t *Tunnel) {
	word := "best_effort"
	oneOf(&word, "required", "best_effort")(n)
	if t.AuditRequired = word == "required"; t.AuditRequired {
		r.required = append(r.required, n)
	}
}

func tunnelName(n node, dst *protocol.TunnelName) {
	s, ok := n.text("a tunnel name")
	if !ok {
		return
	}
	name, err := protocol.ParseTunnelName(s)
	if err != nil {
		n.fault("%v", err)
		return
	}
	*dst = name
}

func address(n node, dst *backend.Address) {
	s, ok := n.text("a URL such as http://10.0.0.5:8080")
	if !ok {
		return
	}
	a, err := backend.ParseAddress(s)
	if err != nil {
		n.fault("%v", err)
		return
	}
	*dst = a
}

func health(n node, h *Health) {
	h.Every = 10 * time.Second
	n.mapping(keys{
		"path": func(n node) {
			s, ok := n.text("a path such as /healthz")
			if !ok {
				return
			}
			if u, err := url.ParseRequestURI(s); err != nil || s[0] != '/' || u.EscapedPath() != u.RequestURI() {
				n.fault("expected a path such as /healthz, got %s", n.got())
				return
			}
			h.Path = s
		},
		"every": duration(&h.Every, time.Second, time.Hour),
	})
}

func allow(n node, a *Allow) {
	n.mapping(keys{
		"methods": func(n node) { n.list(func(_ int, n node) { method(n, a) }) },
		"paths": func(n node) {
			n.list(func(_ int, n node) {
				s, ok := n.text("a path such as /v1/orders/**")
				if !ok {
					return
				}
				p, err := guard.ParsePathPattern(s)
				if err != nil {
					n.fault("%v", err)
					return
				}
				a.Paths = append(a.Paths, p)
			})
		},
	})
	if len(n.Content) == 0 {
		n.fault("expected methods, paths or both")
	}
}

func method(n node, a *Allow) {
	s, ok := n.text("a method such as GET")
	if !ok {
		return
	}
	if len(s) > 32 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" || s == "CONNECT" {
		n.fault("expected a method in capitals such as GET, and not CONNECT, got %s", n.got())
		return
	}
	a.Methods = append(a.Methods, s)
}

func (r *reader) tls(n node, f *backend.TLSFiles) {
	n.mapping(keys{
		"ca":   func(n node) { r.file(n, &f.CA) },
		"cert": func(n node) { r.file(n, &f.Cert) },
		"key":  func(n node) { r.secretFile(n, &f.Key) },
		"server_name": func(n node) {
			s, ok := n.text("a host name")
			if ok && checkHostPort(s+":443") != nil {
				n.fault("expected a host name, got %s", n.got())
				return
			}
			f.ServerName = s
		},
	})
	if n.has("cert") != n.has("key") {
		n.fault("expected cert and key together")
	}
}

func timeouts(n node, t *Timeouts) {
	n.mapping(keys{
		"dial": duration(&t.Dial, 10*time.Millisecond, time.Minute),
		"header": func(n node) {
			if n.Value == "none" {
				t.Header = -1
				return
			}
			duration(&t.Header, 10*time.Millisecond, 24*time.Hour)(n)
		},
		"idle": duration(&t.Idle, time.Second, 24*time.Hour),
	})
}

// secretFile sets dst to the path of a file that only the agent may read.
func (r *reader) secretFile(n node, dst *string) {
	if !r.file(n, dst) {
		return
	}
	if err := secretfile.Check(*dst); err != nil {
		n.fault("%v", err)
	}
}
