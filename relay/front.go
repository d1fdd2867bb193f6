package relay

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/relay/internal/config"
	"github.com/fairlead/fairlead/relay/internal/front"
	"github.com/fairlead/fairlead/relay/internal/gateway"
)

// newFront opens the port.
func (r *Relay) newFront(ctx context.Context, file *config.Relay) (*front.Front, error) {
	key, err := resetKey(file.StateDir)
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	limits := file.Limits
	return front.Listen(ctx, front.Config{
		Address: file.Listen.String(),
		Agents:  certs.ServerConfig(r.source, nil, r.authorizeLink),
		Callers: certs.CallerConfig(r.source, r.serverCert(), nil),
		Agent:   r.serveAgent, Lane: r.serveLane, Enroll: r.carrier.Serve, Caller: r.serveBundle(r.gateway), Follow: r.follow, Shook: r.metrics.shook, Log: r.log,
		Congestion: file.Congestion, Link: r.linkConfig(file), ProxyFrom: file.ProxyProtocol, StatelessResetKey: key, DrainTimeout: file.DrainTimeout,
		Strangers: r.strangers, QUICUnvalidated: limits.QUICUnvalidated, HandshakeTimeout: limits.HandshakeTimeout,
		HeaderReadTimeout: limits.HeaderReadTimeout, IdleTimeout: limits.IdleTimeout, HeaderBytes: limits.HeaderBytes,
	})
}

// authorizeLink takes links of agents that some tunnel names, and of nobody else.
func (r *Relay) authorizeLink(id certs.ID) error {
	for _, t := range r.current.Load().table.All() {
		if t.Agents.Match(id) {
			return nil
		}
	}
	return fmt.Errorf("%s is no agent of any tunnel", id)
}

// serverCert returns what callers are shown: server_certificate, read anew when its file changes, or nil for the SVID.
func (r *Relay) serverCert() func() (*tls.Certificate, error) {
	if r.current.Load().file.ServerCertificate == nil {
		return nil
	}
	type read struct {
		cert *tls.Certificate
		at   time.Time
	}
	var last atomic.Pointer[read]
	get := func() (*tls.Certificate, error) {
		if l := last.Load(); l != nil && time.Since(l.at) < pollFile {
			return l.cert, nil
		}
		cert, err := loadPair(r.current.Load().file.ServerCertificate)
		if err != nil {
			l := last.Load()
			if l == nil {
				return nil, err
			}
			r.log.Error("server_certificate not read, the old one stays", "error", err)
			cert = l.cert
		}
		last.Store(&read{cert, time.Now()})
		r.serverLeaf.Store(cert.Leaf)
		return cert, nil
	}
	_, _ = get() // for whoever asks when it expires; load has found it good, and callers hear of a fault
	return get
}

// Expiries are those of all that has to be renewed: SVID, bundles, server_certificate and the keys of issuers.
func (r *Relay) Expiries() []certs.Expiry {
	all := r.source.Expiries()
	if leaf := r.serverLeaf.Load(); leaf != nil {
		all = append(all, certs.Expiry{Kind: "server_certificate", Name: strings.Join(leaf.DNSNames, " "), From: leaf.NotBefore, Until: leaf.NotAfter})
	}
	for _, s := range r.current.Load().tokens.Status() {
		if !s.Until.IsZero() {
			all = append(all, certs.Expiry{Kind: "keys", Name: s.Issuer, From: s.Fetched, Until: s.Until})
		}
	}
	return all
}

// proof translates what the connection has shown for the gateway.
func proof(ctx context.Context) gateway.Proof {
	c := front.FromContext(ctx)
	return gateway.Proof{Peer: c.Peer, Source: c.Source, Curve: c.Curve, Proved: c.Proved}
}

// resetKey keeps QUIC's stateless-reset key over restarts, so that a relay that has lost a connection says so instead
// of leaving the agent to its time-outs (RFC 9000 §10.3).
func resetKey(dir string) (key [32]byte, err error) {
	path := filepath.Join(dir, "quic-reset.key")
	b, err := secretfile.Read(path, int64(len(key)))
	if err == nil && len(b) == len(key) {
		return [32]byte(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, err := rand.Read(key[:]); err != nil {
		return key, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return key, err
	}
	return key, os.WriteFile(path, key[:], 0o600)
}
