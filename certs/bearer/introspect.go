package bearer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/fairlead/fairlead/certs/secretfile"
)

// An Introspection is where an issuer says what its opaque tokens mean (RFC 7662).
type Introspection struct {
	URL          string        // https, or http to loopback
	ClientID     string        // who asks: the client id, and
	SecretFile   string        // the secret file with its secret, by HTTP Basic (RFC 6749 §2.3.1)
	CA           string        // PEM file of the roots that its certificate must chain to; default: the system's
	Cache        time.Duration // how long an answer may be used again; default 30 s
	maxUnchecked int           // questions under way at one time; 64 where zero
}

// refusedFor is how long a token that was refused is refused without another question.
const refusedFor = 5 * time.Second

// introspector asks one issuer. Answers are remembered by the SHA-256 of the token; what cannot be asked is refused.
type introspector struct {
	conf   Introspection
	issuer Issuer
	client *http.Client
	flight singleflight.Group
	slots  chan struct{}

	// mu guards: the answers; when the young generation is full it becomes the old one, which is dropped.
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]answered
}

type answered struct {
	token *Token // nil: refused
	until time.Time
}

func newIntrospector(issuer Issuer, base *http.Client) (*introspector, error) {
	conf := *issuer.Introspection
	if err := checkURL(conf.URL); err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	if conf.Cache == 0 {
		conf.Cache = 30 * time.Second
	}
	if conf.maxUnchecked == 0 {
		conf.maxUnchecked = 64
	}
	i := &introspector{conf: conf, issuer: issuer, client: newClient(base), slots: make(chan struct{}, conf.maxUnchecked), young: make(map[[sha256.Size]byte]answered)}
	if _, err := i.secret(); err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	if conf.CA != "" {
		b, err := os.ReadFile(conf.CA)
		if err != nil {
			return nil, fmt.Errorf("introspection: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("introspection: %s: certificates in PEM are expected", conf.CA)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig, transport.MaxResponseHeaderBytes = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, 64<<10
		i.client.Transport = transport
	}
	return i, nil
}

func (i *introspector) secret() (string, error) {
	if i.conf.SecretFile == "" {
		return "", nil
	}
	b, err := secretfile.Read(i.conf.SecretFile, 4<<10)
	return strings.TrimRight(string(b), "\r\n"), err
}

// verify says what an opaque token means. It blocks while the issuer is asked, for 5 s at most, or until ctx ends.
func (i *introspector) verify(ctx context.Context, raw string) (*Token, error) {
	sum := sha256.Sum256([]byte(raw))
	now := time.Now()
	i.mu.RLock()
	a, ok := i.young[sum]
	if !ok {
		a, ok = i.old[sum]
	}
	i.mu.RUnlock()
	if ok && now.Before(a.until) {
		return a.token, a.refusal()
	}
	// Not under the call's own context: whoever hangs up early would take the answer from everybody else who waits for it.
	result := i.flight.DoChan(string(sum[:]), func() (any, error) {
		return i.ask(context.WithoutCancel(ctx), raw, sum)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		a := r.Val.(answered)
		return a.token, a.refusal()
	}
}

func (a answered) refusal() error {
	if a.token == nil {
		return invalid(ReasonInactive, "its issuer says that it does not hold, or not here")
	}
	return nil
}

// ask puts one question, and remembers the answer.
func (i *introspector) ask(ctx context.Context, raw string, sum [sha256.Size]byte) (answered, error) {
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	default:
		return answered{}, fmt.Errorf("%w: %d questions to the issuer are under way", ErrUnavailable, i.conf.maxUnchecked)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	claims, err := i.post(ctx, raw)
	if err != nil {
		return answered{}, fmt.Errorf("%w: asking %s: %w", ErrUnavailable, i.conf.URL, err)
	}
	now := time.Now()
	a := answered{until: now.Add(refusedFor)}
	if token, err := i.read(claims, now); err == nil {
		a = answered{token: token, until: now.Add(i.conf.Cache)}
		if token.Expires.Before(a.until) {
			a.until = token.Expires
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.young) >= generationLen {
		i.old, i.young = i.young, make(map[[sha256.Size]byte]answered)
	}
	i.young[sum] = a
	return a, nil
}

// post asks, and returns the answer's members.
func (i *introspector) post(ctx context.Context, raw string) (map[string]any, error) {
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.conf.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	secret, err := i.secret()
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if i.conf.ClientID != "" {
		req.SetBasicAuth(url.QueryEscape(i.conf.ClientID), url.QueryEscape(secret))
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, expected 200", resp.StatusCode)
	}
	body, err := readBounded(resp.Body)
	if err != nil {
		return nil, err
	}
	return decodeObject(body)
}

// read makes a token of an answer (RFC 7662 §2.2). What a JWT must say an answer must say too.
func (i *introspector) read(claims map[string]any, now time.Time) (*Token, error) {
	if active, _ := claims["active"].(bool); !active {
		return nil, errors.New("not active")
	}
	if iss, there := claims["iss"]; there && iss != i.issuer.URL {
		return nil, errors.New("another issuer's")
	}
	claims["iss"] = i.issuer.URL
	u := &unverified{typ: "at+jwt", claims: claims}
	if err := checkShape(u); err != nil {
		return nil, err
	}
	token, err := readClaims(u)
	if err != nil {
		return nil, err
	}
	notBefore, err := seconds(claims, "nbf")
	switch {
	case err != nil:
		return nil, err
	case !now.Before(token.Expires):
		return nil, errors.New("expired")
	case now.Before(notBefore):
		return nil, errors.New("not valid yet")
	case !slices.ContainsFunc(token.Audience, func(aud string) bool { return slices.Contains(i.issuer.Audiences, aud) }):
		return nil, errors.New("not for us")
	}
	return token, nil
}
