// Package federation follows the bundle endpoints of other trust domains (SPIFFE Federation, §5): it fetches their
// bundles, as often as they ask for, and keeps the last good one on disk, so that a process starts without a network.
//
// A bundle is what one trust domain says of itself: it vouches for no other. The package serves no endpoint.
package federation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/certs"
)

// Profile says how an endpoint proves itself.
type Profile string

// The profiles of SPIFFE Federation §5.2.
const (
	Web    Profile = "https_web"    // by a certificate of the Web PKI
	SPIFFE Profile = "https_spiffe" // by an X.509-SVID of the trust domain that the bundle is of
)

// An Endpoint is where a trust domain publishes its bundle.
type Endpoint struct {
	URL     string // https
	Profile Profile
	ID      certs.ID // of the endpoint; https_spiffe only
	// Bootstrap is a bundle's file, PEM or SPIFFE JSON, to begin with; https_spiffe cannot begin without.
	Bootstrap string
	CA        string // PEM file of the roots that are believed in place of the system's; https_web only
}

// Check returns what is wrong with the endpoint of a trust domain.
func (e *Endpoint) Check(td certs.TrustDomain) error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("an https URL without user and password is expected as endpoint")
	}
	switch e.Profile {
	case Web:
		if !e.ID.IsZero() {
			return errors.New("endpoint_id belongs to the profile https_spiffe")
		}
	case SPIFFE:
		if e.ID.TrustDomain() != td {
			return fmt.Errorf("the SPIFFE ID of the endpoint, of %s, is expected as endpoint_id", td)
		}
		if e.Bootstrap == "" || e.CA != "" {
			return errors.New("a bundle to begin with, and no ca, is expected with the profile https_spiffe")
		}
	default:
		return errors.New("https_web or https_spiffe is expected as profile")
	}
	return nil
}

// Config says whom to follow.
type Config struct {
	Endpoints map[certs.TrustDomain]Endpoint
	Dir       string       // where the last good bundles are kept, as <trust domain>.json; made where it is not there; "": nowhere
	Log       *slog.Logger // default: discarded
}

// Bundles are those of the trust domains that are followed. Their methods are safe for concurrent use.
type Bundles struct {
	followers map[certs.TrustDomain]*follower
}

// Open brings each bundle: what was kept, or what the endpoint says, or, where that cannot be had before ctx ends, what
// there is to begin with. It fails where there is nothing of a trust domain.
func Open(ctx context.Context, c Config) (*Bundles, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bundles{followers: make(map[certs.TrustDomain]*follower, len(c.Endpoints))}
	var mu sync.Mutex
	var faults []error
	var opening sync.WaitGroup
	for td, e := range c.Endpoints {
		opening.Go(func() {
			f, err := open(ctx, td, e, c)
			mu.Lock()
			defer mu.Unlock()
			if b.followers[td] = f; err != nil {
				faults = append(faults, fmt.Errorf("bundle of %s: %w", td, err))
			}
		})
	}
	opening.Wait()
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return b, nil
}

// Run follows the endpoints until ctx ends, and returns nil. While one is away its last bundle serves on.
func (b *Bundles) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, f := range b.followers {
		running.Go(func() { f.run(ctx) })
	}
	running.Wait()
	return nil
}

// Roots is as certs.Source has it.
func (b *Bundles) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	if f := b.followers[td]; f != nil {
		return f.Roots(td)
	}
	return nil, fmt.Errorf("trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
}

// JWTBundle returns the keys for JWT-SVIDs of a trust domain as a JWK set.
func (b *Bundles) JWTBundle(td certs.TrustDomain) ([]byte, error) {
	if f := b.followers[td]; f != nil {
		return f.state.Load().bundle.JWTBundle().Marshal()
	}
	return nil, fmt.Errorf("JWT bundle of trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
}

// Generation grows whenever a bundle has changed.
func (b *Bundles) Generation() uint64 {
	var sum uint64
	for _, f := range b.followers {
		sum += f.Generation()
	}
	return sum
}

// Expiries are those of the bundles, by trust domain.
func (b *Bundles) Expiries() []certs.Expiry {
	var all []certs.Expiry
	for td, f := range b.followers {
		all = append(all, certs.BundleExpiry(td, f.state.Load().bundle.X509Authorities()))
	}
	slices.SortFunc(all, func(a, b certs.Expiry) int { return a.Until.Compare(b.Until) })
	return all
}
