// Package workloadsource is a certs.Source from the SPIFFE Workload API, which SPIRE's agent serves on its host: the
// process's own SVID, the bundle of its trust domain and those that are federated with it, each taken over as it changes.
//
// It takes the first SVID, the default one, where the API has several for this process.
package workloadsource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/certs"
)

// Config says where the API is.
type Config struct {
	Address string       // as CheckAddress wants it
	JWT     bool         // follow the bundles for JWT-SVIDs too
	Log     *slog.Logger // default: discarded
}

// A Source is a certs.Source that follows the Workload API. Its methods are safe for concurrent use.
type Source struct {
	config Config
	state  atomic.Pointer[state]
	jwt    atomic.Pointer[jwtbundle.Set] // nil unless Config.JWT

	// mu guards:
	mu    sync.Mutex
	fault string // what is wrong with the API or what it said last, "" where nothing is: each is logged once
}

var _ certs.Expiring = (*Source)(nil)

// CheckAddress wants unix:///path, on Windows npipe:name.
func CheckAddress(address string) error {
	if err := workloadapi.ValidateAddress(address); err != nil {
		return fmt.Errorf("expected %s: %w", addressForm, err)
	}
	if len(address) > 4 && address[:4] == "tcp:" {
		return fmt.Errorf("expected %s: over TCP nobody could tell this process from others", addressForm)
	}
	return nil
}

// retry is the wait after an attempt to reach the API that failed.
const retry = 200 * time.Millisecond

// Open asks the API until it has answered with an identity that verifies, or ctx has ended: a service may start before
// SPIRE's agent does. The error says what was wrong last.
func Open(ctx context.Context, config Config) (*Source, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if err := CheckAddress(config.Address); err != nil {
		return nil, err
	}
	for {
		s, err := fetch(ctx, config)
		if err == nil {
			return s, nil
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil, fmt.Errorf("workload API at %s: %w", config.Address, err)
		}
	}
}

func fetch(ctx context.Context, config Config) (*Source, error) {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(config.Address))
	if err != nil {
		return nil, err
	}
	answer, err := client.FetchX509Context(ctx)
	var keys *jwtbundle.Set
	if err == nil && config.JWT {
		keys, err = client.FetchJWTBundles(ctx)
	}
	if err := errors.Join(err, client.Close()); err != nil {
		return nil, err
	}
	first, err := newState(answer)
	if err != nil {
		return nil, err
	}
	first.generation = 1
	s := &Source{config: config}
	s.state.Store(first)
	s.jwt.Store(keys)
	return s, nil
}

// JWTBundle returns the keys for JWT-SVIDs of a trust domain as a JWK set, and certs.ErrUnknownTrustDomain where there are
// none. It does not block.
func (s *Source) JWTBundle(td certs.TrustDomain) ([]byte, error) {
	if set := s.jwt.Load(); set != nil {
		if b, ok := set.Get(td); ok {
			return b.Marshal()
		}
	}
	return nil, fmt.Errorf("JWT bundle of trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
}

// Run follows the API until ctx ends, and returns nil. While the API is away, or says what does not verify, the last good
// state serves on.
func (s *Source) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.watch(ctx); err != nil && ctx.Err() == nil {
			s.failed(ctx, err)
		}
		select {
		case <-time.After(time.Second): // the library gave up, which it does where the API calls it wrong
		case <-ctx.Done():
		}
	}
	return nil
}

func (s *Source) watch(ctx context.Context) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(s.config.Address))
	if err != nil {
		return err
	}
	var group errgroup.Group
	ctx, stop := context.WithCancel(ctx)
	w := &watcher{s, ctx}
	watch := func(f func() error) {
		group.Go(func() error {
			defer stop() // where the library gives up one, both begin anew
			return f()
		})
	}
	watch(func() error { return client.WatchX509Context(ctx, w) })
	if s.config.JWT {
		watch(func() error { return client.WatchJWTBundles(ctx, w) })
	}
	return errors.Join(group.Wait(), client.Close())
}

// watcher is what the library calls. It retries by itself.
type watcher struct {
	*Source
	ctx context.Context
}

func (w *watcher) OnX509ContextUpdate(answer *workloadapi.X509Context) { w.take(w.ctx, answer) }

func (w *watcher) OnX509ContextWatchError(err error) {
	if w.ctx.Err() == nil {
		w.failed(w.ctx, err)
	}
}

func (w *watcher) OnJWTBundlesUpdate(keys *jwtbundle.Set) { w.jwt.Store(keys) }

func (w *watcher) OnJWTBundlesWatchError(err error) { w.OnX509ContextWatchError(err) }

func (s *Source) failed(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != err.Error() {
		s.fault = err.Error()
		s.config.Log.WarnContext(ctx, "workload API gives no identity, the last one stays", "address", s.config.Address, "error", s.fault)
	}
}

func (s *Source) take(ctx context.Context, answer *workloadapi.X509Context) {
	next, err := newState(answer)
	if err != nil {
		s.failed(ctx, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != "" {
		s.fault = ""
		s.config.Log.InfoContext(ctx, "workload API answers again", "address", s.config.Address)
	}
	before := s.state.Load()
	if next.equal(before) {
		return
	}
	next.generation = before.generation + 1
	s.state.Store(next)
	s.config.Log.InfoContext(ctx, "identity reloaded", "spiffe_id", next.id.String(), "not_after", next.cert.Leaf.NotAfter,
		"generation", next.generation)
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
