// Package sources opens what a configuration's `identity` and `trust` name, as one certs.Source.
package sources

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/enrolled"
	"github.com/fairlead/fairlead/certs/federation"
	"github.com/fairlead/fairlead/certs/pemsource"
	"github.com/fairlead/fairlead/certs/workloadsource"
)

// Config names the places. Exactly one identity is expected.
type Config struct {
	Cert, Key   string        // PEM files of the SVID
	WorkloadAPI string        // or the address of the SPIFFE Workload API
	Enrolled    string        // or the folder of an enrolment with the built-in authority
	Ask         authority.Ask // renews what is Enrolled; nil: nobody does
	JWT         bool          // the Workload API's bundles for JWT-SVIDs are wanted too
	// Bundles are those of trust domains. With the Workload API or an enrolment they add to its bundles, and may not replace
	// that of the process's own trust domain.
	Bundles  map[certs.TrustDomain]Bundle
	StateDir string       // keeps what endpoints have said, in the folder bundles; "": nothing is kept
	Log      *slog.Logger // default: discarded
}

// A Bundle is a PEM file, or what an endpoint says.
type Bundle struct {
	File     string
	Endpoint federation.Endpoint // where it has a URL
}

// A Source is where a process gets its SVID and the bundles it believes.
type Source interface {
	certs.Expiring
	// Run follows the places until ctx ends, and returns nil.
	Run(ctx context.Context) error
}

// bundles are bundles that come from elsewhere than the identity.
type bundles interface {
	Roots(certs.TrustDomain) (*x509.CertPool, error)
	Generation() uint64
	Expiries() []certs.Expiry
	Run(context.Context) error
}

// Open reads everything. With the Workload API it blocks until that has answered or ctx has ended; with bundle endpoints,
// where nothing is at hand, likewise.
func Open(ctx context.Context, c Config) (Source, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	files, endpoints := map[certs.TrustDomain]string{}, map[certs.TrustDomain]federation.Endpoint{}
	for td, b := range c.Bundles {
		if b.Endpoint.URL != "" {
			endpoints[td] = b.Endpoint
		} else {
			files[td] = b.File
		}
	}
	j := new(joined)
	var err error
	if j.Source, err = openIdentity(ctx, c, files); err != nil {
		return nil, err
	}
	if c.Cert == "" {
		if _, ok := c.Bundles[j.ID().TrustDomain()]; ok {
			return nil, fmt.Errorf("trust: %s is the process's own trust domain, whose bundle comes with its identity", j.ID().TrustDomain())
		}
		if len(files) > 0 {
			more, err := pemsource.New(pemsource.Config{Bundles: files, Log: c.Log})
			if err != nil {
				return nil, err
			}
			j.more = append(j.more, more)
		}
	}
	if len(endpoints) > 0 {
		dir := ""
		if c.StateDir != "" {
			dir = filepath.Join(c.StateDir, "bundles")
		}
		more, err := federation.Open(ctx, federation.Config{Endpoints: endpoints, Dir: dir, Log: c.Log})
		if err != nil {
			return nil, err
		}
		j.more = append(j.more, more)
	}
	if len(j.more) == 0 {
		return j.Source, nil
	}
	return j, nil
}

func openIdentity(ctx context.Context, c Config, files map[certs.TrustDomain]string) (Source, error) {
	switch {
	case c.Enrolled != "":
		return enrolled.Open(enrolled.Config{Dir: c.Enrolled, Ask: c.Ask, Log: c.Log})
	case c.WorkloadAPI == "":
		return pemsource.New(pemsource.Config{CertFile: c.Cert, KeyFile: c.Key, Bundles: files, Log: c.Log})
	}
	return workloadsource.Open(ctx, workloadsource.Config{Address: c.WorkloadAPI, JWT: c.JWT, Log: c.Log})
}

// JWTBundles is how a source brings the keys for JWT-SVIDs, as bearer.Config.Bundle wants them; nil where it brings none.
func JWTBundles(s Source) func(certs.TrustDomain) ([]byte, error) {
	if b, ok := s.(jwtBundles); ok {
		return b.JWTBundle
	}
	return nil
}

// Bans asks the built-in authority for whom it has banned, by an enrolled identity.
func Bans(ctx context.Context, s Source) (authority.Bans, error) {
	if e, ok := enrolledIn(s); ok {
		return e.Bans(ctx)
	}
	return nil, errors.New("an enrolled identity is expected")
}

// Banned is the check of a source that knows of bans: an enrolled one. It is never nil.
func Banned(s Source) func(certs.Identity) *authority.Ban {
	if e, ok := enrolledIn(s); ok {
		return e.Banned
	}
	return func(certs.Identity) *authority.Ban { return nil }
}

// Refresh has a source ask its authority again, where it has one.
func Refresh(s Source) {
	if e, ok := enrolledIn(s); ok {
		e.Refresh()
	}
}

func enrolledIn(s Source) (*enrolled.Source, bool) {
	if j, ok := s.(*joined); ok {
		s = j.Source
	}
	e, ok := s.(*enrolled.Source)
	return e, ok
}

type jwtBundles interface {
	JWTBundle(certs.TrustDomain) ([]byte, error)
}

// joined is an identity with further bundles. A trust domain that these have is theirs.
type joined struct {
	Source
	more []bundles
}

func (j *joined) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	for _, b := range j.more {
		if pool, err := b.Roots(td); err == nil {
			return pool, nil
		}
	}
	return j.Source.Roots(td)
}

func (j *joined) JWTBundle(td certs.TrustDomain) ([]byte, error) {
	err := fmt.Errorf("JWT bundle of trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
	for _, b := range j.more {
		if keys, ok := b.(jwtBundles); ok {
			if doc, err := keys.JWTBundle(td); err == nil {
				return doc, nil
			}
		}
	}
	if keys, ok := j.Source.(jwtBundles); ok {
		return keys.JWTBundle(td)
	}
	return nil, err
}

// Generation grows with any part: a verdict that was made between the reads is taken for older than it is.
func (j *joined) Generation() uint64 {
	sum := j.Source.Generation()
	for _, b := range j.more {
		sum += b.Generation()
	}
	return sum
}

func (j *joined) Expiries() []certs.Expiry {
	all := j.Source.Expiries()
	for _, b := range j.more {
		all = append(all, b.Expiries()...)
	}
	return all
}

func (j *joined) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, b := range j.more {
		running.Go(func() { _ = b.Run(ctx) }) // returns nil
	}
	return j.Source.Run(ctx)
}

// Rebased is a Source that can be exchanged for another while it is in use. Its generation goes on growing over the
// change, so that nothing judged before it is taken for judged.
type Rebased struct{ current atomic.Pointer[based] }

type based struct {
	Source
	base uint64
}

var _ certs.Expiring = (*Rebased)(nil)

// NewRebased begins with first.
func NewRebased(first Source) *Rebased {
	r := new(Rebased)
	r.current.Store(&based{first, 0})
	return r
}

// Swap takes next from here on. It is not called concurrently with itself.
func (r *Rebased) Swap(next Source) { r.current.Store(&based{next, r.Generation() + 1}) }

// Certificate implements certs.Source.
func (r *Rebased) Certificate() (*tls.Certificate, error) { return r.current.Load().Certificate() }

// ID implements certs.Source.
func (r *Rebased) ID() certs.ID { return r.current.Load().ID() }

// Roots implements certs.Source.
func (r *Rebased) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	return r.current.Load().Roots(td)
}

// Expiries implements certs.Expiring.
func (r *Rebased) Expiries() []certs.Expiry { return r.current.Load().Expiries() }

// Generation implements certs.Source.
func (r *Rebased) Generation() uint64 {
	c := r.current.Load()
	return c.base + c.Generation()
}
