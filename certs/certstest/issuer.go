package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// An Issuer mints ES256 tokens and publishes its keys. It signs by hand, so that it shares no mistake with the library
// that verifies.
type Issuer struct {
	URL string // goes into iss

	// mu guards:
	mu        sync.Mutex
	key       *ecdsa.PrivateKey
	kid       string
	published []publicKey
}

type publicKey struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	Alg string `json:"alg"`
	Use string `json:"use"`
	Kid string `json:"kid"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// MakeIssuer returns an issuer with that P-256 key; nil makes one.
func MakeIssuer(url string, key *ecdsa.PrivateKey) (*Issuer, error) {
	i := &Issuer{URL: url}
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, fmt.Errorf("making an issuer's key: %w", err)
		}
	}
	return i, i.use(key)
}

// NewIssuer is MakeIssuer for tests, with a new key.
func NewIssuer(tb testing.TB, url string) *Issuer {
	tb.Helper()
	i, err := MakeIssuer(url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

// Rotate signs with a new key from now on. The old keys stay published only if keep says so.
func (i *Issuer) Rotate(tb testing.TB, keep bool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	if !keep {
		i.mu.Lock()
		i.published = nil
		i.mu.Unlock()
	}
	if err := i.use(key); err != nil {
		tb.Fatal(err)
	}
}

func (i *Issuer) use(key *ecdsa.PrivateKey) error {
	point, err := key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		return fmt.Errorf("encoding an issuer's key: %w", err)
	}
	if key.Curve != elliptic.P256() {
		return fmt.Errorf("issuer's key is on %s, P-256 is expected", key.Curve.Params().Name)
	}
	sum := sha256.Sum256(point)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.kid = key, encode(sum[:12])
	i.published = append(i.published, publicKey{
		Kty: "EC", Crv: "P-256", Alg: "ES256", Use: "sig", Kid: i.kid, X: encode(point[1:33]), Y: encode(point[33:]),
	})
	return nil
}

// Kid returns the ID of the key that signs now.
func (i *Issuer) Kid() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kid
}

// Mint returns a token of the issuer for audience "fairlead" and subject "user-1", issued now, good for five minutes.
// claims are added to these or replace them; a nil value leaves one out.
func (i *Issuer) Mint(tb testing.TB, claims map[string]any) string {
	tb.Helper()
	token, err := i.Sign(nil, claims)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// Sign is Mint with header parameters, which are added to alg, kid and typ, replace them, or leave them out.
func (i *Issuer) Sign(header, claims map[string]any) (string, error) {
	now := time.Now()
	i.mu.Lock()
	key, kid := i.key, i.kid
	i.mu.Unlock()
	h, err := json.Marshal(merge(map[string]any{"alg": "ES256", "kid": kid, "typ": "at+jwt"}, header))
	if err != nil {
		return "", fmt.Errorf("encoding a header: %w", err)
	}
	c, err := json.Marshal(merge(map[string]any{
		"iss": i.URL, "aud": "fairlead", "sub": "user-1",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}, claims))
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	return signRaw(key, h, c)
}

// SignRaw signs header and payload as they are, for JSON that no encoder writes.
func (i *Issuer) SignRaw(tb testing.TB, header, payload string) string {
	tb.Helper()
	i.mu.Lock()
	key := i.key
	i.mu.Unlock()
	token, err := signRaw(key, []byte(header), []byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func signRaw(key *ecdsa.PrivateKey, header, payload []byte) (string, error) {
	text := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	var sig [64]byte // RFC 7518 §3.4: R and S, 32 bytes each
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + encode(sig[:]), nil
}

// JWKS returns the published keys as a JSON Web Key Set.
func (i *Issuer) JWKS() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	b, err := json.MarshalIndent(map[string]any{"keys": i.published}, "", "  ")
	if err != nil {
		panic(err) // strings only
	}
	return append(b, '\n')
}

// WriteJWKS writes dir/idp.jwks.json and returns its path.
func (i *Issuer) WriteJWKS(tb testing.TB, dir string) string {
	tb.Helper()
	path := filepath.Join(dir, "idp.jwks.json")
	writeFile(tb, path, i.JWKS(), 0o644)
	return path
}

func merge(base, over map[string]any) map[string]any {
	maps.Copy(base, over)
	maps.DeleteFunc(base, func(_ string, v any) bool { return v == nil })
	return base
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
