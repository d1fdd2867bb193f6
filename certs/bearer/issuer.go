package bearer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/certs"
)

// An Issuer is whose tokens are taken, and what is wanted of them.
type Issuer struct {
	URL        string   // what iss says, byte for byte; spiffe://<trust domain>: JWT-SVIDs of that trust domain
	Audiences  []string // aud names one of these; at least one
	JWKS       string   // file path, or URL: https, or http to loopback; "": OpenID discovery at URL, of a trust domain Config.Bundle
	Algorithms []string // of Algorithms(); none: all of them
	// Introspection is where to ask about its tokens, which are opaque then; nil: they are JWTs, and nobody is asked.
	Introspection *Introspection
}

// issuer holds the keys of one Issuer.
type issuer struct {
	conf   Issuer
	svid   certs.TrustDomain                       // whose JWT-SVIDs these are; zero: an issuer of other tokens
	remote bool                                    // keys come by network, and grow stale
	load   func(context.Context) (document, error) // gets the key set
	opaque *introspector                           // set where tokens are opaque; there are no keys then
	parser *jwt.Parser                             // safe for concurrent use
	ttl    time.Duration
	grace  time.Duration
	poll   time.Duration
	log    *slog.Logger

	snapshot atomic.Pointer[snapshot] // nil: never had any

	// mu guards:
	mu      sync.Mutex
	flight  *flight   // the load under way, or nil
	lastTry time.Time // when the last load began
	fault   string    // the last load's error, "" after a success: each is logged once
	skew    time.Duration
}

// A document is the text of a key set, as it was got.
type document struct {
	body []byte
	date time.Time // the server's clock; zero where it does not say
}

// A snapshot is the newest good key set.
type snapshot struct {
	keys *keySet
	sum  [sha256.Size]byte // of the document
	at   time.Time         // when it was last confirmed
}

func newIssuer(conf Issuer, config Config, client *http.Client) (*issuer, error) {
	conf.Audiences, conf.Algorithms = slices.Clone(conf.Audiences), slices.Clone(conf.Algorithms)
	if len(conf.Algorithms) == 0 {
		conf.Algorithms = Algorithms()
	}
	if err := checkIssuer(conf); err != nil {
		return nil, err
	}
	svid, err := trustDomainOf(&conf)
	if err != nil {
		return nil, err
	}
	i := &issuer{
		conf:   conf,
		svid:   svid,
		parser: newParser(conf, svid, config.Leeway),
		ttl:    config.TTL,
		grace:  config.Grace,
		poll:   config.FilePoll,
		log:    config.Log.With("issuer", conf.URL),
	}
	switch {
	case conf.Introspection != nil:
		if conf.JWKS != "" || len(i.conf.Algorithms) != len(algorithms) || !svid.IsZero() {
			return nil, errors.New("introspection is expected alone: an opaque token has neither keys nor algorithms")
		}
		i.opaque, err = newIntrospector(conf, client)
		return i, err
	case !svid.IsZero():
		i.load, err = bundleOf(conf, svid, config.Bundle)
		if err != nil {
			return nil, err
		}
		return i, i.refresh(context.Background()) // reads a file or memory: nothing to cancel
	case conf.JWKS == "":
		i.remote = true
		i.load = func(ctx context.Context) (document, error) { return discover(ctx, client, conf.URL) }
		return i, checkURL(conf.URL)
	case strings.Contains(conf.JWKS, "://"):
		i.remote = true
		i.load = func(ctx context.Context) (document, error) { return get(ctx, client, conf.JWKS) }
		return i, checkURL(conf.JWKS)
	}
	i.load = func(context.Context) (document, error) { return readFile(conf.JWKS) }
	return i, i.refresh(context.Background()) // reads a file: nothing to cancel
}

func checkIssuer(conf Issuer) error {
	if conf.URL == "" {
		return errors.New("its URL is missing")
	}
	if len(conf.Audiences) == 0 || slices.Contains(conf.Audiences, "") {
		return errors.New("at least one audience is expected, and none may be empty")
	}
	for _, alg := range conf.Algorithms {
		if _, ok := algorithms[alg]; !ok {
			return fmt.Errorf("algorithm %q: one of %s is expected", alg, strings.Join(Algorithms(), ", "))
		}
	}
	return nil
}

// adopt takes over what before has; i is not in use yet.
func (i *issuer) adopt(before *issuer) {
	if s := before.snapshot.Load(); s != nil && i.snapshot.Load() == nil {
		i.snapshot.Store(s)
	}
}

// usable returns the keys that may verify tokens at now; the error wraps ErrUnavailable.
func (i *issuer) usable(now time.Time) (*keySet, error) {
	if i.opaque != nil {
		return nil, nil
	}
	s := i.snapshot.Load()
	if s == nil {
		return nil, fmt.Errorf("%w: those of %s were never fetched", ErrUnavailable, i.conf.URL)
	}
	if i.remote && now.Sub(s.at) > i.ttl+i.grace {
		return nil, fmt.Errorf("%w: those of %s are from %s", ErrUnavailable, i.conf.URL, s.at.UTC().Format(time.RFC3339))
	}
	return s.keys, nil
}

// keysFor returns the set that has a key for kid and alg. For a kid that the set lacks it fetches once, if the last
// fetch is long enough ago, because the issuer may have rotated its keys.
func (i *issuer) keysFor(ctx context.Context, kid, alg string) (*keySet, error) {
	set, err := i.usable(time.Now())
	if err != nil {
		return nil, err
	}
	if len(set.find(kid, alg)) == 0 && (i.remote || !i.svid.IsZero()) && kid != "" && !set.has(kid) {
		// Not under the call's own context: whoever hangs up early would take the fetch from everybody else.
		// How it went shows in the set, and is logged where the load ran.
		_ = i.attempt(context.WithoutCancel(ctx), minGap)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		set = i.snapshot.Load().keys
	}
	if len(set.find(kid, alg)) == 0 {
		return nil, invalid(ReasonUnknownKey, "issuer has no single key for kid "+quote(kid)+" and algorithm "+alg)
	}
	return set, nil
}
