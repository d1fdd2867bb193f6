// Package enrolled is a certs.Source whose SVID the built-in authority has issued. It keeps SVID and bundle in a folder, has
// them renewed at half of their life, and takes over what a new enrolment puts into the folder.
package enrolled

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/secretfile"
)

// The folder's files.
const (
	identityFile = "identity.pem" // chain and key; the key is sealed where the system can
	bundleFile   = "bundle.json"  // the trust domain's, in SPIFFE's format
	bansFile     = "bans.json"    // as they were heard last; there once they were
	maxFile      = 256 << 10
)

// Write puts what an authority has issued into a folder, which it makes where it is not there.
func Write(dir string, i *authority.Issued) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.Certificate.PrivateKey)
	if err != nil {
		return err
	}
	sealed, err := secretfile.Seal(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, c := range i.Certificate.Certificate {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
	}
	text.Write(sealed)
	if err := writeBundle(dir, i.Bundle); err != nil { // first: an SVID without the bundle that vouches for it is of no use
		return err
	}
	return secretfile.Write(filepath.Join(dir, identityFile), text.Bytes())
}

func writeBundle(dir string, b *spiffebundle.Bundle) error {
	text, err := b.Marshal()
	if err != nil {
		return err
	}
	return secretfile.Write(filepath.Join(dir, bundleFile), text)
}

// ErrExpired is wrapped by Open's and the log's error where nothing but a new enrolment helps.
var ErrExpired = errors.New("enrol again with a new token")

// Config says where the folder is and who renews.
type Config struct {
	Dir string
	Ask authority.Ask // nil: nobody renews
	Log *slog.Logger  // default: discarded
}

// A Source is a certs.Source from a folder. Its methods are safe for concurrent use.
type Source struct {
	config Config
	state  atomic.Pointer[state]
	nudged atomic.Bool

	// Touched by Run alone.
	fault string // of the last attempt, "" after a success: each is logged once
	wait  time.Duration
	next  time.Time // no attempt before it
}

var _ certs.Expiring = (*Source)(nil)

// state is what the folder holds; it does not change.
type state struct {
	cert       *tls.Certificate
	id         certs.ID
	bundle     *spiffebundle.Bundle
	pool       *x509.CertPool
	bans       authority.Bans
	text       [3][]byte // of the files
	renew      time.Time
	refresh    time.Time
	generation uint64
}

// Open reads the folder. An SVID that has expired is an error that wraps ErrExpired.
func Open(c Config) (*Source, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{config: c}
	first, err := s.read(time.Now())
	if err != nil {
		return nil, err
	}
	if end := first.cert.Leaf.NotAfter; time.Now().After(end) {
		return nil, fmt.Errorf("the SVID of %s in %s has expired on %s: %w", first.id, c.Dir, end.UTC().Format(time.RFC3339), ErrExpired)
	}
	first.generation = 1
	s.state.Store(first)
	return s, nil
}

func (s *Source) read(now time.Time) (*state, error) {
	text, err := s.texts()
	if err != nil {
		return nil, err
	}
	return s.parse(text, now)
}

// texts are those of the files.
func (s *Source) texts() (text [3][]byte, err error) {
	if text[0], err = secretfile.Read(filepath.Join(s.config.Dir, identityFile), maxFile); err != nil {
		return text, err
	}
	if text[1], err = os.ReadFile(filepath.Join(s.config.Dir, bundleFile)); err != nil {
		return text, err
	}
	if text[2], err = os.ReadFile(filepath.Join(s.config.Dir, bansFile)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return text, err
}

// parse makes the state of the files' texts. Renewal is due at half of the SVID's life, or a little before, so that those who
// were enrolled together do not all come at once.
func (s *Source) parse(text [3][]byte, now time.Time) (*state, error) {
	next, identity, bundle := &state{text: text, pool: x509.NewCertPool()}, text[0], text[1]
	path := filepath.Join(s.config.Dir, identityFile)
	chain, sealed := splitChain(identity)
	key, err := secretfile.Unseal(sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s: a certificate chain and its key are expected", path) // the cause may quote the key
	}
	next.cert = &cert
	if next.id, err = certs.LeafID(cert.Leaf); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if next.bundle, err = spiffebundle.Parse(next.id.TrustDomain(), bundle); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(s.config.Dir, bundleFile), err)
	}
	for _, c := range next.bundle.X509Authorities() {
		next.pool.AddCert(c)
	}
	if text[2] != nil {
		if err := json.Unmarshal(text[2], &next.bans); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(s.config.Dir, bansFile), err)
		}
	}
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	next.renew = cert.Leaf.NotAfter.Add(-life/2 - rand.N(life/20+1))
	hint, ok := next.bundle.RefreshHint()
	if !ok || hint <= 0 {
		hint = 5 * time.Minute
	}
	next.refresh = now.Add(hint - rand.N(hint/10+1))
	return next, nil
}

// splitChain parts the certificates from what follows them.
func splitChain(text []byte) (chain, rest []byte) {
	rest = text
	for {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return text[:len(text)-len(rest)], rest
		}
		rest = after
	}
}

const (
	// look is how often Run looks at the folder and the clock.
	look = 500 * time.Millisecond
	// The waits between attempts that fail grow from the first to the second.
	minRetry, maxRetry = 500 * time.Millisecond, time.Minute
)

// Run renews until ctx ends, and returns nil. While the authority does not answer, what there is serves on.
func (s *Source) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.turn(ctx, time.Now())
		}
	}
}

func (s *Source) turn(ctx context.Context, now time.Time) {
	s.reread(now)
	current := s.state.Load()
	if s.config.Ask == nil || now.Before(s.next) || now.Before(current.renew) && now.Before(current.refresh) && !s.nudged.Load() {
		return
	}
	s.nudged.Store(false)
	err := s.attempt(ctx, current, now)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if s.fault != "" {
			s.config.Log.InfoContext(ctx, "the authority answers again")
		}
		s.fault, s.wait, s.next = "", 0, time.Time{}
		return
	}
	s.wait = min(max(minRetry, 2*s.wait), maxRetry)
	s.next = now.Add(s.wait/2 + rand.N(s.wait/2+1))
	if now.After(current.cert.Leaf.NotAfter) {
		err = fmt.Errorf("the SVID of %s has expired: %w: %w", current.id, ErrExpired, err)
	}
	if s.fault != err.Error() {
		s.fault = err.Error()
		s.config.Log.ErrorContext(ctx, "not renewed, what there is serves on", "spiffe_id", current.id.String(),
			"not_after", current.cert.Leaf.NotAfter, "error", err)
	}
}

func (s *Source) attempt(ctx context.Context, current *state, now time.Time) error {
	if now.Before(current.renew) {
		said, err := authority.Fetch(ctx, s.config.Ask, current.cert, current.bundle)
		if err != nil {
			return err
		}
		if !slices.Equal(said.Bans, current.bans) {
			if err := s.keepBans(said.Bans); err != nil {
				return err
			}
		}
		if !said.Bundle.Equal(current.bundle) {
			if err := writeBundle(s.config.Dir, said.Bundle); err != nil {
				return err
			}
		}
		return s.take(now)
	}
	issued, err := authority.Renew(ctx, s.config.Ask, current.cert, current.bundle)
	if err != nil {
		return err
	}
	if err := Write(s.config.Dir, issued); err != nil {
		return err
	}
	if err := s.take(now); err != nil {
		return err
	}
	s.config.Log.InfoContext(ctx, "identity renewed", "spiffe_id", current.id.String(), "serial", authority.Serial(issued.Certificate.Leaf),
		"not_after", issued.Certificate.Leaf.NotAfter)
	return nil
}

func (s *Source) keepBans(b authority.Bans) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return secretfile.Write(filepath.Join(s.config.Dir, bansFile), text)
}

// Refresh has bundle and bans asked for at the next turn: somebody says that they have changed.
func (s *Source) Refresh() { s.nudged.Store(true) }

// Banned returns the ban that meets an identity, as far as it was heard of, or nil.
func (s *Source) Banned(id certs.Identity) *authority.Ban { return s.state.Load().bans.Of(id) }

// take makes what the folder holds the state.
func (s *Source) take(now time.Time) error {
	next, err := s.read(now)
	if err != nil {
		return err
	}
	before := s.state.Load()
	if next.id != before.id {
		return fmt.Errorf("%s: expected an SVID of %s, got one of %s, which takes a restart", s.config.Dir, before.id, next.id)
	}
	next.generation = before.generation
	if !next.cert.Leaf.Equal(before.cert.Leaf) || !next.bundle.Equal(before.bundle) || !slices.Equal(next.bans, before.bans) {
		next.generation++
	}
	if next.cert.Leaf.Equal(before.cert.Leaf) {
		next.renew = before.renew
	}
	s.state.Store(next)
	return nil
}

// reread takes over what somebody else, a new enrolment, has put into the folder.
func (s *Source) reread(now time.Time) {
	text, err := s.texts()
	before := s.state.Load().text
	if err != nil || slices.EqualFunc(text[:], before[:], bytes.Equal) {
		return // a folder that is being written is read at the next turn
	}
	if err := s.take(now); err != nil {
		if s.fault != err.Error() {
			s.fault = err.Error()
			s.config.Log.Error("the folder's identity is not taken", "error", err)
		}
		return
	}
	s.next, s.wait = time.Time{}, 0
	next := s.state.Load()
	s.config.Log.Info("identity reloaded", "spiffe_id", next.id.String(), "not_after", next.cert.Leaf.NotAfter)
}

// Certificate implements certs.Source.
func (s *Source) Certificate() (*tls.Certificate, error) { return s.state.Load().cert, nil }

// ID implements certs.Source.
func (s *Source) ID() certs.ID { return s.state.Load().id }

// Generation implements certs.Source.
func (s *Source) Generation() uint64 { return s.state.Load().generation }

// Roots implements certs.Source.
func (s *Source) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	current := s.state.Load()
	if td != current.id.TrustDomain() {
		return nil, fmt.Errorf("trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
	}
	return current.pool, nil
}

// Bans asks the authority for whom it has banned.
func (s *Source) Bans(ctx context.Context) (authority.Bans, error) {
	if s.config.Ask == nil {
		return nil, errors.New("no way to the authority is configured")
	}
	current := s.state.Load()
	said, err := authority.Fetch(ctx, s.config.Ask, current.cert, current.bundle)
	if err != nil {
		return nil, err
	}
	return said.Bans, nil
}

// Bundle is that of the authority's trust domain. The caller does not change it.
func (s *Source) Bundle() *spiffebundle.Bundle { return s.state.Load().bundle }

// Expiries implements certs.Expiring.
func (s *Source) Expiries() []certs.Expiry {
	current := s.state.Load()
	return []certs.Expiry{certs.SVIDExpiry(current.id, current.cert.Leaf),
		certs.BundleExpiry(current.id.TrustDomain(), current.bundle.X509Authorities())}
}
