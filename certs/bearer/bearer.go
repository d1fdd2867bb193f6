// Package bearer verifies access tokens: JWTs of several issuers, whose keys come from a file, a JWKS URL or OpenID
// discovery, JWT-SVIDs of several trust domains, whose keys come from their bundles, and opaque tokens, whose issuers are asked. It
// checks DPoP proofs, and signs transaction tokens. It is the only importer of golang-jwt and jwkset.
//
// It does not find the token in a request and does not say what a token allows. No URL is ever taken from a token, and no
// error ever contains one.
package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/certs"
)

// Config makes a Verifier. The zero value of each field but Issuers means its default.
type Config struct {
	Issuers  []Issuer      // each URL once
	Leeway   time.Duration // for exp, nbf and iat; default 30 s
	TTL      time.Duration // how long fetched keys are fresh, and the pace of refreshing them; default 5 min
	Grace    time.Duration // how long after TTL stale keys still serve when no fetch succeeds; default 1 h
	FilePoll time.Duration // how often key files are read again; default 5 s
	// Bundle returns the keys for JWT-SVIDs of a trust domain as a JWK set, for issuers that have no JWKS of their own: the
	// Workload API's, say. It does not block. Nil: there are none.
	Bundle     func(certs.TrustDomain) ([]byte, error)
	HTTPClient *http.Client // its Transport is used; redirects are refused and time is limited here anyway
	Log        *slog.Logger // default: discarded
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Leeway, 30*time.Second)
	def(&c.TTL, 5*time.Minute)
	def(&c.Grace, time.Hour)
	def(&c.FilePoll, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Verifier verifies tokens. Its methods are safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer // by URL, byte for byte
	cache   *cache
	idle    func() // ends kept connections to issuers
}

// New reads the key files and checks every URL; a fault in any of them is an error that names the issuer. Nothing is
// fetched: keys with a URL come with Run or Refresh, and until then Verify says ErrUnavailable.
func New(config Config) (*Verifier, error) {
	config = config.withDefaults()
	client := newClient(config.HTTPClient)
	v := &Verifier{
		issuers: make(map[string]*issuer, len(config.Issuers)),
		cache:   newCache(),
		idle:    client.CloseIdleConnections,
	}
	var faults []error
	for _, conf := range config.Issuers {
		if v.issuers[conf.URL] != nil {
			faults = append(faults, fmt.Errorf("issuer %q: configured twice", conf.URL))
			continue
		}
		iss, err := newIssuer(conf, config, client)
		if err != nil {
			faults = append(faults, fmt.Errorf("issuer %q: %w", conf.URL, err))
			continue
		}
		v.issuers[conf.URL] = iss
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return v, nil
}

// Adopt takes over the keys of the issuers whose source has not changed from old, so that a reload does not begin
// without keys. It is called before v is used; old goes on working.
func (v *Verifier) Adopt(old *Verifier) {
	for url, iss := range v.issuers {
		if before := old.issuers[url]; before != nil && before.conf.JWKS == iss.conf.JWKS {
			iss.adopt(before)
		}
	}
}

// Run keeps the keys fresh until ctx ends: URLs by TTL, files by their content. It returns nil, once every goroutine it
// began has ended.
func (v *Verifier) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, iss := range v.issuers {
		group.Go(func() error { return iss.run(ctx) })
	}
	err := group.Wait()
	v.idle()
	return err
}

// Refresh gets the keys of every issuer now, whatever the schedule says, and returns what went wrong; old keys stay
// where it did. It is what an operator's reload calls after a key was compromised.
func (v *Verifier) Refresh(ctx context.Context) error {
	errs := make(chan error, len(v.issuers))
	var group errgroup.Group
	for _, iss := range v.issuers {
		group.Go(func() error {
			errs <- iss.refresh(ctx)
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Ready returns an error that wraps ErrUnavailable while any issuer has no keys that may be used.
func (v *Verifier) Ready() error {
	var all []error
	now := time.Now()
	for _, iss := range v.issuers {
		_, err := iss.usable(now)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Status describes every issuer, for health pages and metrics; in no order.
func (v *Verifier) Status() []Status {
	all := make([]Status, 0, len(v.issuers))
	for _, iss := range v.issuers {
		all = append(all, iss.status(time.Now()))
	}
	return all
}
