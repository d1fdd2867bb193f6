package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/uplink"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/certs/sources"
)

// loaded is a configuration and everything that it names, read and found good.
type loaded struct {
	file   *config.Agent
	source sources.Source
	tokens *bearer.Verifier
	dial   uplink.DialTCP
	byName bool // the relays' names are the proxy's to resolve
}

// load is the one way in which a configuration is read: by run, check and reload.
// ask carries requests to the authority that an enrolled identity is renewed by.
func load(ctx context.Context, path string, ask authority.Ask, log *slog.Logger) (*loaded, error) {
	file, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	l := &loaded{file: file}
	l.source, err = sources.Open(ctx, sources.Config{Cert: file.Identity.Cert, Key: file.Identity.Key, WorkloadAPI: file.Identity.WorkloadAPI,
		Enrolled: file.Identity.Enrolled, Ask: ask, Bundles: file.Trust, StateDir: file.StateDir, Log: log})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if l.tokens, err = bearer.New(bearer.Config{Issuers: file.Tokens, Log: log}); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if err := l.wayOut(); err != nil {
		return nil, err
	}
	for _, t := range file.Tunnels {
		b, err := backend.New(backend.Config{Address: t.Backend, TLS: t.TLS})
		if err != nil {
			return nil, fmt.Errorf("tunnel %s: %w", t.Name, err)
		}
		b.Close()
	}
	return l, nil
}

// wayOut finds how TCP gets out: through the file's proxy, through the environment's, or directly.
func (l *loaded) wayOut() error {
	l.dial = uplink.Direct
	proxy, err := l.proxy()
	if err != nil || proxy == nil {
		return err
	}
	if proxy.Password != nil {
		if _, err := proxy.Password(); err != nil {
			return err
		}
	}
	l.dial, l.byName = proxy.Dial, true
	return nil
}

func (l *loaded) proxy() (*uplink.Proxy, error) {
	p := l.file.Proxy
	if p == nil {
		return uplink.FromEnvironment(l.file.Relays)
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	proxy := &uplink.Proxy{URL: u, User: p.User}
	if p.PasswordFile != "" {
		proxy.Password = func() (string, error) {
			b, err := secretfile.Read(p.PasswordFile, 4<<10)
			return strings.TrimRight(string(b), "\r\n"), err
		}
	}
	return proxy, nil
}

// sameLinks reports whether links made for the one file serve the other: what only the agent itself looks at (backends,
// rules, health) may differ.
func sameLinks(a, b *config.Agent) bool {
	names := func(f *config.Agent) []string {
		var names []string
		for _, t := range f.Tunnels {
			name := string(t.Name)
			if t.Token != nil {
				name += " with a token" // which Hello says
			}
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	same := func(f *config.Agent) string {
		return fmt.Sprintf("%q %q %v %v %v %d %v %+v %+v %+v %q", f.Name, f.Relays, f.RelayID, f.Transport, f.Congestion, f.Limits.Lanes, f.RequirePQ,
			f.Proxy, f.Identity, f.Trust, names(f))
	}
	return same(a) == same(b)
}

// digestOf tells one content of the file from another.
func digestOf(path string) ([32]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return [32]byte{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return sha256.Sum256(b), nil
}
