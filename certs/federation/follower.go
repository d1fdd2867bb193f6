package federation

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/fairlead/fairlead/certs"
)

const (
	// An endpoint's refresh hint is followed within these; without one (SPIFFE Federation §5.1.1) it is defaultRefresh.
	minRefresh, maxRefresh, defaultRefresh = 10 * time.Second, 24 * time.Hour, 5 * time.Minute
	// retryAfter is the longest wait after a fetch that failed.
	retryAfter = time.Minute
)

// follower follows one endpoint. As a certs.Source it has the bundle of its trust domain alone, which is what an endpoint
// of the profile https_spiffe is verified with.
type follower struct {
	td     certs.TrustDomain
	client *http.Client
	url    string
	file   string // where the last good bundle is kept; "": nowhere
	log    *slog.Logger
	state  atomic.Pointer[state]
	fault  string // the last fetch's, "" after a success; touched by run alone
}

// state is one bundle; it does not change.
type state struct {
	bundle     *spiffebundle.Bundle
	pool       *x509.CertPool
	generation uint64
}

var _ certs.Source = (*follower)(nil)

// ErrNoSVID is Certificate's: an endpoint is shown none.
var ErrNoSVID = errors.New("no SVID is shown to bundle endpoints")

func (f *follower) Certificate() (*tls.Certificate, error) { return nil, ErrNoSVID }
func (f *follower) ID() certs.ID                           { return certs.ID{} }
func (f *follower) Generation() uint64                     { return f.state.Load().generation }

func (f *follower) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	if td != f.td {
		return nil, fmt.Errorf("trust domain %s: %w", td, certs.ErrUnknownTrustDomain)
	}
	return f.state.Load().pool, nil
}

// open finds a first bundle.
func open(ctx context.Context, td certs.TrustDomain, e Endpoint, c Config) (*follower, error) {
	if err := e.Check(td); err != nil {
		return nil, err
	}
	f := &follower{td: td, url: e.URL, log: c.Log.With("trust_domain", td.Name(), "endpoint", e.URL)}
	if c.Dir != "" {
		f.file = filepath.Join(c.Dir, td.Name()+".json")
	}
	var err error
	if f.client, err = newClient(f, e); err != nil {
		return nil, err
	}
	first, err := f.kept()
	if err != nil {
		f.log.Warn("the bundle that was kept is no good", "error", err)
	}
	if first == nil && e.Bootstrap != "" {
		if first, err = readBundle(td, e.Bootstrap); err != nil {
			return nil, err
		}
	}
	if first != nil {
		f.store(first)
	}
	fetched, err := f.fetch(ctx)
	if err == nil {
		return f, f.take(fetched)
	}
	if first == nil {
		return nil, err
	}
	f.log.Warn("bundle endpoint does not answer, the bundle at hand serves", "error", err)
	return f, nil
}

func (f *follower) store(b *spiffebundle.Bundle) {
	s := &state{bundle: b, pool: x509.NewCertPool(), generation: 1}
	for _, c := range b.X509Authorities() {
		s.pool.AddCert(c)
	}
	if before := f.state.Load(); before != nil {
		s.generation = before.generation + 1
	}
	f.state.Store(s)
}

// take makes what was fetched the bundle, and keeps it. A bundle that is older than what there is is refused.
func (f *follower) take(b *spiffebundle.Bundle) error {
	before := f.state.Load()
	if before != nil {
		have, known := before.bundle.SequenceNumber()
		if next, ok := b.SequenceNumber(); known && ok && next < have {
			return fmt.Errorf("expected sequence number %d or more, got %d: an older bundle", have, next)
		}
		if b.Equal(before.bundle) {
			return nil
		}
	}
	f.store(b)
	if before != nil {
		f.log.Info("bundle changed", "roots", len(b.X509Authorities()), "generation", f.Generation())
	}
	return f.keep(b)
}

// keep writes the bundle so that a crash leaves the old one or the new one.
func (f *follower) keep(b *spiffebundle.Bundle) error {
	if f.file == "" {
		return nil
	}
	text, err := b.Marshal()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(f.file), 0o700)
	}
	if err == nil {
		err = writeFile(f.file, text)
	}
	if err != nil {
		return fmt.Errorf("keeping the bundle: %w", err)
	}
	return nil
}

func writeFile(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".bundle-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// kept reads what an earlier process kept; nil where there is none.
func (f *follower) kept() (*spiffebundle.Bundle, error) {
	if f.file == "" {
		return nil, nil
	}
	b, err := readBundle(f.td, f.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func readBundle(td certs.TrustDomain, path string) (*spiffebundle.Bundle, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, err := ParseBundle(td, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// ParseBundle reads a bundle that is CA certificates in PEM, or SPIFFE's JSON. It wants at least one root.
func ParseBundle(td certs.TrustDomain, text []byte) (*spiffebundle.Bundle, error) {
	var b *spiffebundle.Bundle
	if block, _ := pem.Decode(text); block != nil {
		b = spiffebundle.New(td)
		for rest := text; ; {
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil || block.Type != "CERTIFICATE" {
				return nil, errors.New("CA certificates in PEM are expected, and nothing else")
			}
			b.AddX509Authority(c)
		}
	} else {
		var err error
		if b, err = spiffebundle.Parse(td, bytes.TrimSpace(text)); err != nil {
			return nil, errors.New("a SPIFFE bundle is expected, or CA certificates in PEM") // the cause may quote the text
		}
	}
	if len(b.X509Authorities()) == 0 {
		return nil, errors.New("at least one root is expected")
	}
	for _, c := range b.X509Authorities() {
		if !c.IsCA {
			return nil, errors.New("a certificate is not of a CA")
		}
	}
	return b, nil
}

// run fetches until ctx ends, as often as the endpoint asks for.
func (f *follower) run(ctx context.Context) {
	timer := time.NewTimer(f.wait(0))
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		b, err := f.fetch(ctx)
		if err == nil {
			err = f.take(b)
		}
		if failures++; err == nil {
			failures = 0
		}
		if ctx.Err() == nil {
			f.note(err)
		}
		timer.Reset(f.wait(failures))
	}
}

// note logs a fault once, and its end.
func (f *follower) note(err error) {
	before := f.fault
	if f.fault = ""; err != nil {
		f.fault = err.Error()
	}
	switch {
	case f.fault == before:
	case err != nil:
		f.log.Warn("bundle endpoint brings no bundle, the last one stays", "error", err)
	default:
		f.log.Info("bundle endpoint answers again")
	}
}

// wait is the pause before the next fetch, with jitter so that relays do not ask together.
func (f *follower) wait(failures int) time.Duration {
	d := defaultRefresh
	if hint, ok := f.state.Load().bundle.RefreshHint(); ok {
		d = min(max(hint, minRefresh), maxRefresh)
	}
	if failures > 0 {
		d = min(d, retryAfter, time.Second<<min(failures, 10))
	}
	return time.Duration(float64(d) * (0.9 + 0.1*rand.Float64()))
}
