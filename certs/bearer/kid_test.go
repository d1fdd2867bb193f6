package bearer_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

func TestKidIsLookedUpInItsOwnIssuersSetOnly(t *testing.T) {
	one, two := certstest.NewIssuer(t, "https://one.example"), certstest.NewIssuer(t, "https://two.example")
	v := newVerifier(t,
		bearer.Issuer{URL: one.URL, Audiences: []string{"fairlead"}, JWKS: one.WriteJWKS(t, t.TempDir())},
		bearer.Issuer{URL: two.URL, Audiences: []string{"fairlead"}, JWKS: two.WriteJWKS(t, t.TempDir())})
	for _, idp := range []*certstest.Issuer{one, two} {
		if _, err := v.Verify(t.Context(), idp.Mint(t, nil)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := v.Verify(t.Context(), one.Mint(t, map[string]any{"iss": two.URL})) // one's kid and key, two's name
	refused(t, err, bearer.ReasonUnknownKey)
	for _, kid := range []string{"../../dev/null", "' OR 1=1 --", "a\x00b", "a\nb", "é", strings.Repeat("k", 4096), two.Kid()} {
		raw, err := one.Sign(map[string]any{"kid": kid}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(t.Context(), raw)
		refused(t, err, bearer.ReasonUnknownKey)
	}
	raw, err := one.Sign(map[string]any{"kid": two.Kid()}, map[string]any{"iss": two.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), raw)
	refused(t, err, bearer.ReasonSignature)
}

func TestTokenWithoutKidNeedsASingleKey(t *testing.T) {
	idp, v := fromFile(t)
	raw, err := idp.Sign(map[string]any{"kid": nil}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("one key: %v", err)
	}
	idp.Rotate(t, true)
	two := newVerifier(t, bearer.Issuer{URL: idpURL, Audiences: []string{"fairlead"}, JWKS: idp.WriteJWKS(t, t.TempDir())})
	_, err = two.Verify(t.Context(), raw)
	refused(t, err, bearer.ReasonUnknownKey)
}

func TestURLsAndKeysInATokenAreIgnored(t *testing.T) {
	idp, v := fromFile(t)
	attacker := certstest.NewIssuer(t, idpURL)
	var hits atomic.Int64
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_, _ = w.Write(attacker.JWKS())
	}))
	t.Cleanup(listener.Close)
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(attacker.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	extras := map[string]any{
		"jku": listener.URL + "/jwks.json", "x5u": listener.URL + "/x5u", "jwk": set.Keys[0],
		"x5c": []string{"MIIB"}, "iss": listener.URL,
	}
	for _, kid := range []string{attacker.Kid(), idp.Kid()} {
		extras["kid"] = kid
		raw, err := attacker.Sign(extras, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), raw); err == nil {
			t.Error("the attacker's key was taken from the token")
		}
	}
	extras["kid"] = idp.Kid()
	raw, err := idp.Sign(extras, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("a good token with such parameters: %v", err)
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests came to the URL in the token", n)
	}
}
