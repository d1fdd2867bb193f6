// Package pemsource is a certs.Source from PEM files: an SVID with its key, and a bundle a trust domain; or bundles alone.
// It follows the files' contents, so that whoever renews them needs to tell nobody.
//
// It does not ask anybody for certificates, and it does not end links whose SVID has run out.
package pemsource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// Config names the files. Symlinks are followed at every reading, as Kubernetes swaps them.
type Config struct {
	CertFile string                       // the SVID, its leaf first, then its intermediates; "" with KeyFile: bundles alone
	KeyFile  string                       // its private key: a secret file
	Bundles  map[certs.TrustDomain]string // roots, one file a trust domain
	Poll     time.Duration                // how often Run reads the files; default 2 s
	Log      *slog.Logger                 // default: discarded
}

// A Source is a certs.Source over files. Its methods are safe for concurrent use.
type Source struct {
	config Config
	state  atomic.Pointer[state]

	// mu serialises reloads and guards:
	mu    sync.Mutex
	fault string // the last reload's error, "" after a success: each is logged once
}

// ErrNoSVID is Certificate's of a source of bundles alone.
var ErrNoSVID = errors.New("no SVID among these files")

var _ certs.Expiring = (*Source)(nil)

// New reads all the files. It wants what Reload wants.
func New(config Config) (*Source, error) {
	config.Bundles = maps.Clone(config.Bundles)
	if config.Poll == 0 {
		config.Poll = 2 * time.Second
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if (config.CertFile == "") != (config.KeyFile == "") || config.CertFile == "" && len(config.Bundles) == 0 {
		return nil, errors.New("a certificate file and a key file are expected")
	}
	s := &Source{config: config}
	first, err := load(config, nil)
	if err != nil {
		return nil, err
	}
	first.generation = 1
	s.state.Store(first)
	return s, nil
}

// Reload reads all the files and takes them whole or not at all: after an error everything is as before. It wants the
// key to be the certificate's, the leaf to be an SVID that is valid now and, where the bundle of its own trust domain
// is among the files, to chain to it. Files that have not changed change nothing.
func (s *Source) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.reload()
	return err
}

// Run follows the files until ctx ends, and returns nil. A fault is logged once, until it changes.
func (s *Source) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.config.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.poll(ctx)
		}
	}
}

func (s *Source) poll(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed, err := s.reload()
	before := s.fault
	if s.fault = ""; err != nil {
		s.fault = err.Error()
	}
	log := s.config.Log
	switch {
	case err != nil && s.fault != before:
		log.WarnContext(ctx, "identity files are no good, the old ones stay", "error", s.fault)
	case changed:
		now := s.state.Load()
		if now.cert == nil {
			log.InfoContext(ctx, "bundles reloaded", "generation", now.generation)
			return
		}
		log.InfoContext(ctx, "identity reloaded", "spiffe_id", now.id.String(),
			"not_after", now.cert.Leaf.NotAfter, "generation", now.generation)
	case err == nil && before != "":
		log.InfoContext(ctx, "identity files are as they were again")
	}
}

// reload is called with mu held.
func (s *Source) reload() (changed bool, err error) {
	before := s.state.Load()
	next, err := load(s.config, before)
	if err != nil || next == before {
		return false, err
	}
	next.generation = before.generation + 1
	s.state.Store(next)
	return true, nil
}

// Certificate implements certs.Source.
func (s *Source) Certificate() (*tls.Certificate, error) { return s.state.Load().Certificate() }

// ID implements certs.Source.
func (s *Source) ID() certs.ID { return s.state.Load().ID() }

// Roots implements certs.Source.
func (s *Source) Roots(td certs.TrustDomain) (*x509.CertPool, error) { return s.state.Load().Roots(td) }

// Generation implements certs.Source.
func (s *Source) Generation() uint64 { return s.state.Load().Generation() }

// Expiries implements certs.Expiring.
func (s *Source) Expiries() []certs.Expiry { return s.state.Load().expiries() }
