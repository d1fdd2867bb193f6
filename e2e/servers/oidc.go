package servers

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// OIDC is an OpenID provider: zitadel/oidc's server over its storage in memory, with one client for each kind of access token,
// signing keys that rotate, and a client that may ask about tokens. It listens on this machine's loopback.
type OIDC struct {
	URL string // the issuer

	// IntrospectionSecret is that of the client "fairlead", which may ask about tokens.
	IntrospectionSecret string

	server  *httptest.Server
	store   *oidcStore
	secret  string
	t       testing.TB
	away    atomic.Bool
	fetched atomic.Int64 // times that the keys were asked for
}

// The clients, named by the kind of token that they get.
const (
	ClientJWT    = "jwt"
	ClientOpaque = "opaque"
)

// StartOIDC starts a provider.
func StartOIDC(t testing.TB) *OIDC {
	t.Helper()
	o := &OIDC{t: t, secret: rand.Text(), IntrospectionSecret: rand.Text()}
	o.store = &oidcStore{Storage: storage.NewStorageWithClients(storage.NewUserStore("http://localhost"), nil), o: o, tokens: map[string]oidcToken{}}
	o.store.rotate(t, false)
	var handler http.Handler
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.away.Load() {
			http.Error(w, "out for lunch", http.StatusServiceUnavailable)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/keys") {
			o.fetched.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(o.server.Close)
	o.URL = o.server.URL
	config := &op.Config{SupportedScopes: []string{"openid", "orders.read", "orders.use"}}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		t.Fatal(err)
	}
	provider, err := op.NewProvider(config, o.store, op.StaticIssuer(o.URL), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	handler = provider
	return o
}

// Token is an access token for the scopes, by client credentials (RFC 6749 §4.4).
func (o *OIDC) Token(t testing.TB, client string, scopes ...string) string {
	t.Helper()
	form := neturl.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(scopes, " ")}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client, o.secret)
	res, err := o.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token: %d, %+v, %v", res.StatusCode, answer, err)
	}
	return answer.AccessToken
}

// Rotate makes another key the one that signs. The older ones stay in the key set where keep says so.
func (o *OIDC) Rotate(t testing.TB, keep bool) {
	t.Helper()
	o.store.rotate(t, keep)
}

// Away makes the provider answer nobody, or everybody again.
func (o *OIDC) Away(away bool) { o.away.Store(away) }

// Revoke makes a token inactive, whatever it is.
func (o *OIDC) Revoke() {
	o.store.mu.Lock()
	defer o.store.mu.Unlock()
	clear(o.store.tokens)
}

// oidcStore is the example's storage, with keys, clients and tokens of its own.
type oidcStore struct {
	*storage.Storage
	o *OIDC

	mu     sync.Mutex // guards: what follows
	keys   []*oidcKey // the first one signs
	tokens map[string]oidcToken
}

type oidcToken struct {
	subject  string
	audience []string
	scopes   []string
	expires  time.Time
}

type oidcKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k *oidcKey) ID() string                                  { return k.id }
func (k *oidcKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *oidcKey) Key() any                                    { return k.key }
func (k *oidcKey) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k *oidcKey) Use() string                                 { return "sig" }

// publicKey is what the key set shows of a key.
type publicKey struct{ *oidcKey }

func (k publicKey) Key() any { return &k.key.PublicKey }

func (s *oidcStore) rotate(t testing.TB, keep bool) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !keep {
		s.keys = nil
	}
	s.keys = append([]*oidcKey{{id: rand.Text(), key: key}}, s.keys...)
}

// SigningKey implements op.Storage.
func (s *oidcStore) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[0], nil
}

// SignatureAlgorithms implements op.Storage.
func (s *oidcStore) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

// KeySet implements op.Storage.
func (s *oidcStore) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []op.Key
	for _, k := range s.keys {
		all = append(all, publicKey{k})
	}
	return all, nil
}

// oidcClient is one that gets tokens by its secret.
type oidcClient struct {
	op.Client
	id string
}

func (c oidcClient) GetID() string { return c.id }
func (c oidcClient) AccessTokenType() op.AccessTokenType {
	if c.id == ClientJWT {
		return op.AccessTokenTypeJWT
	}
	return op.AccessTokenTypeBearer
}

var errWrongClient = errors.New("wrong client or secret")

// ClientCredentials implements op.ClientCredentialsStorage.
func (s *oidcStore) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if secret != s.o.secret || id != ClientJWT && id != ClientOpaque {
		return nil, errWrongClient
	}
	example, err := s.Storage.ClientCredentials(ctx, "sid1", "verysecret")
	return oidcClient{example, id}, err
}

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage.
func (s *oidcStore) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &oidc.JWTTokenRequest{Subject: "service of " + id, Audience: []string{"fairlead"}, Scopes: scopes}, nil
}

// CreateAccessToken implements op.Storage.
func (s *oidcStore) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, expires := rand.Text(), time.Now().Add(5*time.Minute)
	s.tokens[id] = oidcToken{r.GetSubject(), r.GetAudience(), r.GetScopes(), expires}
	return id, expires, nil
}

// GetPrivateClaimsFromScopes implements op.Storage.
func (s *oidcStore) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(scopes, " ")}, nil
}

// AuthorizeClientIDSecret implements op.Storage: who may ask about tokens.
func (s *oidcStore) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if id != "fairlead" || secret != s.o.IntrospectionSecret {
		return errWrongClient
	}
	return nil
}

// SetIntrospectionFromToken implements op.Storage.
func (s *oidcStore) SetIntrospectionFromToken(_ context.Context, answer *oidc.IntrospectionResponse, id, _, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := s.tokens[id]
	if !ok {
		return fmt.Errorf("no token %s", id)
	}
	answer.Subject, answer.Audience, answer.Scope, answer.Expiration = token.subject, token.audience, token.scopes, oidc.FromTime(token.expires)
	return nil
}
