package relay

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/config"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// rules is one configuration and everything that it names, read and found good: what a reload swaps.
type rules struct {
	file      *config.Relay
	version   string // of the file: the beginning of its SHA-256
	table     *tunnel.Table
	source    sources.Source
	tokens    *bearer.Verifier
	gate      *policy.Gate // set by decide
	authority *behind

	directories map[string]policy.Directory
	codes       map[string]policy.Codes

	stop context.CancelFunc // set when it runs
}

// load is the one way in which a configuration is read: by run, check and reload. dial reaches directories.
func load(ctx context.Context, path string, dial login.Dial, log *slog.Logger) (*rules, error) {
	file, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	var faults config.Faults
	for i, t := range file.Tunnels {
		if t.Allow == "" {
			continue
		}
		if _, err := policy.Compile(t.Allow); err != nil {
			faults = append(faults, file.Fault(fmt.Sprintf("tunnels[%d].allow", i), err.Error()))
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	digest, err := digestOf(path)
	if err != nil {
		return nil, err
	}
	r := &rules{file: file, version: fmt.Sprintf("%x", digest[:8])}
	if r.table, err = tunnel.NewTable(file.Tunnels); err != nil {
		return nil, err
	}
	r.authority = newBehind(file.Authority, func() sources.Source { return r.source })
	r.source, err = sources.Open(ctx, sources.Config{Cert: file.Identity.Cert, Key: file.Identity.Key, WorkloadAPI: file.Identity.WorkloadAPI,
		Enrolled: file.Identity.Enrolled, Ask: r.authority.ask, JWT: slices.ContainsFunc(file.Tokens, bearer.Issuer.IsTrustDomain), Bundles: file.Trust, StateDir: file.StateDir, Log: log})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	r.tokens, err = bearer.New(bearer.Config{Issuers: file.Tokens, Leeway: file.Limits.ClockLeeway, Grace: file.Limits.JWKSGrace,
		Bundle: sources.JWTBundles(r.source), Log: log})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	r.directories = make(map[string]policy.Directory)
	for _, conf := range file.Directories {
		if r.directories[conf.Name], err = login.NewDirectory(conf, dial); err != nil {
			return nil, err
		}
	}
	r.codes = make(map[string]policy.Codes)
	if file.TOTP != "" {
		if r.codes[""], err = login.NewTOTP(file.TOTP); err != nil {
			return nil, fmt.Errorf("totp: %w", err)
		}
	}
	for _, conf := range file.RADIUS {
		if r.codes[conf.Name], err = login.NewRADIUS(conf, dial); err != nil {
			return nil, err
		}
	}
	if file.ServerCertificate != nil {
		if _, err := loadPair(file.ServerCertificate); err != nil {
			return nil, fmt.Errorf("server_certificate: %w", err)
		}
	}
	return r, r.decide(r.source, nil, new(memory))
}

// memory is what decisions remember over reloads.
type memory struct {
	proofs  bearer.Proofs    // of DPoP, which were taken
	factors login.Remembered // who has shown a second factor
}

// decide makes the gate, which judges SVIDs by source and bans.
func (r *rules) decide(source certs.Source, banned func(certs.Identity) error, m *memory) (err error) {
	c := policy.Config{Table: r.table, Source: source, Banned: banned, Version: r.version, RequirePQ: r.file.RequirePQ, Tokens: r.tokens, Proofs: &m.proofs,
		Apps: r.file.Apps, Directories: r.directories, Codes: r.codes, Factors: &m.factors}
	r.gate, err = policy.New(c)
	return err
}

// adopt takes over what old remembers of codes that were used, so that a reload makes none good again.
func (r *rules) adopt(old *rules) {
	r.tokens.Adopt(old.tokens)
	if used := old.codes[""]; used != nil && r.file.TOTP == old.file.TOTP {
		r.codes[""] = used
	}
	for _, conf := range r.file.RADIUS {
		if slices.Contains(old.file.RADIUS, conf) { // challenges wait there for their answers
			r.codes[conf.Name] = old.codes[conf.Name]
		}
	}
}

// owns says whether agent may serve the tunnel.
func (r *rules) owns(name protocol.TunnelName, agent certs.ID) bool {
	t, ok := r.table.Named(name)
	return ok && t.Agents.Match(agent)
}

// ready says whether decisions can be made.
func (r *rules) ready() error { return r.tokens.Ready() }

func loadPair(pair *config.KeyPair) (*tls.Certificate, error) {
	chain, err := os.ReadFile(pair.Cert)
	if err != nil {
		return nil, err
	}
	key, err := secretfile.Read(pair.Key, 64<<10)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", pair.Cert, pair.Key, err)
	}
	return &cert, nil
}

// digestOf tells one content of the file from another.
func digestOf(path string) ([32]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return [32]byte{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return sha256.Sum256(b), nil
}

// restartOnly returns an error where next differs from old in what only a restart can change.
func restartOnly(old, next *config.Relay) error {
	var keys []string
	differs := func(key string, same bool) {
		if !same {
			keys = append(keys, key)
		}
	}
	differs("listen", old.Listen == next.Listen)
	differs("proxy_protocol", fmt.Sprint(old.ProxyProtocol) == fmt.Sprint(next.ProxyProtocol))
	differs("ops", old.Ops == next.Ops)
	differs("control", old.Control == next.Control)
	differs("audit", fmt.Sprint(old.Audit.File, old.Audit.Rotate, old.Audit.Keep) == fmt.Sprint(next.Audit.File, next.Audit.Rotate, next.Audit.Keep))
	differs("state_dir", old.StateDir == next.StateDir)
	differs("drain_timeout", old.DrainTimeout == next.DrainTimeout)
	differs("require_pq", old.RequirePQ == next.RequirePQ)
	differs("limits", old.Limits == next.Limits)
	differs("server_certificate", (old.ServerCertificate == nil) == (next.ServerCertificate == nil))
	if len(keys) > 0 {
		return errors.New("these keys change with a restart only: " + fmt.Sprint(keys))
	}
	return nil
}
