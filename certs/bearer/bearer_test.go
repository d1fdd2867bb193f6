package bearer_test

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const idpURL = "https://idp.example"

// fromFile returns an issuer and a verifier that has its keys from a file.
func fromFile(tb testing.TB) (*certstest.Issuer, *bearer.Verifier) {
	tb.Helper()
	idp := certstest.NewIssuer(tb, idpURL)
	return idp, newVerifier(tb, bearer.Issuer{
		URL: idpURL, Audiences: []string{"fairlead", "other"}, JWKS: idp.WriteJWKS(tb, tb.TempDir()),
	})
}

func newVerifier(tb testing.TB, issuers ...bearer.Issuer) *bearer.Verifier {
	tb.Helper()
	v, err := bearer.New(bearer.Config{Issuers: issuers})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// refused fails the test unless err is an *InvalidError with that reason.
func refused(tb testing.TB, err error, want bearer.Reason) {
	tb.Helper()
	invalid, ok := errors.AsType[*bearer.InvalidError](err)
	if !ok {
		tb.Fatalf("got %v, want an InvalidError with reason %s", err, want)
	}
	if invalid.Reason != want {
		tb.Fatalf("got reason %s (%v), want %s", invalid.Reason, err, want)
	}
}

func TestGoodTokenIsReadWhole(t *testing.T) {
	idp, v := fromFile(t)
	token, err := v.Verify(t.Context(), idp.Mint(t, map[string]any{
		"scope": "orders.read orders.write", "aud": []string{"x", "fairlead"}, "jti": "j1", "level": 3,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if token.Issuer != idpURL || token.Subject != "user-1" || token.ID != "j1" || token.Claims["level"] != 3.0 ||
		!slices.Equal(token.Scopes, []string{"orders.read", "orders.write"}) ||
		!slices.Equal(token.Audience, []string{"x", "fairlead"}) || token.Expires.IsZero() || token.IssuedAt.IsZero() {
		t.Errorf("got %+v", token)
	}
}
