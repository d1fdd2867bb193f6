package bearer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// prover is a client with a DPoP key.
type prover struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	jwk map[string]any
}

func newProver(t testing.TB) *prover {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return &prover{t, key, map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}}
}

func (p *prover) thumbprint() string {
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, p.jwk["x"], p.jwk["y"]))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const dpopURL, dpopToken = "https://orders.dc1.example/v1/orders/7", "e30.e30.AA"

func (p *prover) target() ProofTarget {
	return ProofTarget{Method: "GET", URL: dpopURL, Token: dpopToken, Key: p.thumbprint()}
}

// prove makes a proof as a good client does, changed by change.
func (p *prover) prove(change func(header, claims map[string]any)) string {
	p.t.Helper()
	sum := sha256.Sum256([]byte(dpopToken))
	header := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": maps.Clone(p.jwk)}
	claims := map[string]any{"jti": rand.Text(), "htm": "GET", "htu": dpopURL, "iat": time.Now().Unix(), "ath": base64.RawURLEncoding.EncodeToString(sum[:])}
	if change != nil {
		change(header, claims)
	}
	token := &jwt.Token{Header: header, Claims: jwt.MapClaims(claims), Method: jwt.SigningMethodES256}
	raw, err := token.SignedString(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

func TestADPoPProofIsGoodOnce(t *testing.T) {
	p, proofs := newProver(t), new(Proofs)
	raw := p.prove(nil)
	if err := proofs.Check(raw, p.target(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, 30 * time.Second, proofAge - time.Second} { // J14
		if err := proofs.Check(raw, p.target(), time.Now().Add(later)); err == nil || !strings.Contains(err.Error(), "used before") {
			t.Errorf("again after %v: %v", later, err)
		}
	}
	// Another's proof with the same jti is another one.
	other := newProver(t)
	same := func(_, claims map[string]any) { claims["jti"] = "1" }
	if err := errors.Join(proofs.Check(p.prove(same), p.target(), time.Now()), proofs.Check(other.prove(same), other.target(), time.Now())); err != nil {
		t.Error(err)
	}
}

func TestAProofIsForgottenOnlyWhenItIsTooOld(t *testing.T) {
	p, proofs, start := newProver(t), new(Proofs), time.Now()
	for i := range 20 {
		now := start.Add(time.Duration(i) * 40 * time.Second)
		raw := p.prove(func(_, claims map[string]any) { claims["iat"] = now.Unix() + 29 })
		if err := proofs.Check(raw, p.target(), now); err != nil {
			t.Fatal(err)
		}
		for again := now; again.Before(now.Add(3 * time.Minute)); again = again.Add(7 * time.Second) {
			if proofs.Check(raw, p.target(), again) == nil {
				t.Fatalf("taken again %v later", again.Sub(now))
			}
		}
	}
}

func TestBadDPoPProofsAreRefused(t *testing.T) {
	p, proofs, other := newProver(t), new(Proofs), newProver(t)
	with := func(name string, value any) func(header, claims map[string]any) {
		return func(header, claims map[string]any) {
			if _, ok := header[name]; ok || name == "crit" {
				header[name] = value
				return
			}
			if value == nil {
				delete(claims, name)
				return
			}
			claims[name] = value
		}
	}
	private := maps.Clone(p.jwk)
	private["d"] = base64.RawURLEncoding.EncodeToString(big.NewInt(1).Bytes())
	good := p.prove(nil)
	for name, raw := range map[string]string{
		"no JWT":               "x.y",
		"long":                 strings.Repeat("a", maxProof+1),
		"typ JWT":              p.prove(with("typ", "JWT")),
		"crit":                 p.prove(with("crit", []string{"x"})),
		"alg none":             p.prove(with("alg", "none")),
		"alg HS256":            p.prove(with("alg", "HS256")),
		"alg of another kind":  p.prove(with("alg", "RS256")),
		"no jwk":               p.prove(func(h, _ map[string]any) { delete(h, "jwk") }),
		"a private jwk":        p.prove(with("jwk", private)),
		"a symmetric jwk":      p.prove(with("jwk", map[string]any{"kty": "oct", "k": "AA"})),
		"another's jwk":        p.prove(with("jwk", other.jwk)),
		"another's key":        other.prove(nil),
		"no jti":               p.prove(with("jti", nil)),
		"a long jti":           p.prove(with("jti", strings.Repeat("a", 300))),
		"another method":       p.prove(with("htm", "POST")),
		"another path":         p.prove(with("htu", "https://orders.dc1.example/v1/orders/8")),
		"another host":         p.prove(with("htu", "https://evil.example/v1/orders/7")),
		"another scheme":       p.prove(with("htu", "http://orders.dc1.example/v1/orders/7")),
		"no htu":               p.prove(with("htu", nil)),
		"another token":        p.prove(with("ath", "x")),
		"no ath":               p.prove(with("ath", nil)),
		"old":                  p.prove(with("iat", time.Now().Add(-2*time.Minute).Unix())),
		"of tomorrow":          p.prove(with("iat", time.Now().Add(time.Hour).Unix())),
		"no iat":               p.prove(with("iat", nil)),
		"a cut signature":      good[:len(good)-4],
		"an altered claim":     good[:strings.Index(good, ".")+3] + "x" + good[strings.Index(good, ".")+4:],
		"a line end":           good + "\n",
		"a twin key in claims": p.prove(nil)[:10],
	} {
		err := proofs.Check(raw, p.target(), time.Now())
		if e, ok := errors.AsType[*InvalidError](err); !ok || e.Reason != ReasonProof {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheURLOfAProofIsComparedAsTheRFCSays(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://A.example/x?q=1#f", "https://a.example/x", true},
		{"HTTPS://a.example:443/x", "https://a.example/x", true},
		{"https://a.example", "https://a.example/", true},
		{"https://a.example:8443/x", "https://a.example/x", false},
		{"https://a.example/x/", "https://a.example/x", false},
		{"https://a.example/%78", "https://a.example/x", false},
		{"https://u:p@a.example/x", "https://a.example/x", false},
		{"/x", "/x", false},
	} {
		if got := sameTarget(c.a, c.b); got != c.same {
			t.Errorf("%s and %s: %t", c.a, c.b, got)
		}
	}
}

func TestAFloodOfProofsIsRefusedAndNotForgotten(t *testing.T) {
	p, proofs := newProver(t), new(Proofs)
	now := time.Now()
	if err := proofs.Check(p.prove(nil), p.target(), now); err != nil {
		t.Fatal(err)
	}
	for i := range proofsKept {
		proofs.young[sha256.Sum256(fmt.Append(nil, i))] = struct{}{}
	}
	if err := proofs.Check(p.prove(nil), p.target(), now); !errors.Is(err, ErrTooManyProofs) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkDPoP(b *testing.B) {
	p, proofs := newProver(b), new(Proofs)
	raw, target := p.prove(nil), p.target()
	b.ReportAllocs()
	for b.Loop() {
		clear(proofs.young)
		if err := proofs.Check(raw, target, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDPoP(f *testing.F) {
	p := newProver(f)
	good := p.prove(nil)
	f.Add(good)
	f.Add("e30.e30.AA")
	f.Fuzz(func(t *testing.T, raw string) {
		if err := new(Proofs).Check(raw, p.target(), time.Now()); err == nil && raw != good {
			t.Errorf("%q is taken", raw)
		}
	})
}
