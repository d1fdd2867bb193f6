package bearer_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

const (
	cloud  = "spiffe://cloud.example"
	apiID  = "spiffe://cloud.example/api/billing"
	idpToo = "https://idp.example"
)

// svids returns what signs JWT-SVIDs of cloud.example, and a verifier that has its keys from the Workload API's bundle, and
// those of an ordinary issuer from a file.
func svids(t *testing.T) (signer, idp *certstest.Issuer, v *bearer.Verifier) {
	t.Helper()
	signer, idp = certstest.NewIssuer(t, cloud), certstest.NewIssuer(t, idpToo)
	v, err := bearer.New(bearer.Config{
		Issuers: []bearer.Issuer{{URL: cloud, Audiences: []string{"fairlead"}}, {URL: idpToo, Audiences: []string{"fairlead"}, JWKS: idp.WriteJWKS(t, t.TempDir())}},
		Bundle: func(td certs.TrustDomain) ([]byte, error) {
			if td.Name() != "cloud.example" {
				return nil, certs.ErrUnknownTrustDomain
			}
			return signer.JWKS(), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return signer, idp, v
}

func mint(t *testing.T, i *certstest.Issuer, header, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"typ": "JWT"}
	maps.Copy(all, header)
	token, err := i.Sign(all, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAJWTSVIDIsItsTrustDomains(t *testing.T) {
	signer, _, v := svids(t)
	for name, token := range map[string]string{
		"as SPIRE makes it": mint(t, signer, nil, map[string]any{"iss": nil, "sub": apiID, "scope": "a b"}),
		"typ JOSE":          mint(t, signer, map[string]any{"typ": "JOSE"}, map[string]any{"iss": nil, "sub": apiID}),
		"no typ":            mint(t, signer, map[string]any{"typ": nil}, map[string]any{"iss": nil, "sub": apiID}),
		"with an iss":       mint(t, signer, nil, map[string]any{"iss": "https://oidc.cloud.example", "sub": apiID}),
	} {
		got, err := v.Verify(t.Context(), token)
		if err != nil || got.Issuer != cloud || got.Subject != apiID {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestNothingElsePassesForAJWTSVID(t *testing.T) {
	signer, idp, v := svids(t)
	none := map[string]any{"iss": nil}
	with := func(more map[string]any) map[string]any {
		all := map[string]any{"iss": nil, "sub": apiID}
		maps.Copy(all, more)
		return all
	}
	for name, c := range map[string]struct {
		token string
		want  bearer.Reason
	}{
		"the ordinary issuer's key":     {mint(t, idp, nil, with(nil)), bearer.ReasonUnknownKey},
		"another trust domain":          {mint(t, signer, nil, with(map[string]any{"sub": "spiffe://dc1.example/agent/a"})), bearer.ReasonIssuer},
		"a subject that is no ID":       {mint(t, signer, nil, with(map[string]any{"sub": "spiffe://cloud.example//a"})), bearer.ReasonIssuer},
		"a bare trust domain":           {mint(t, signer, nil, with(map[string]any{"sub": cloud})), bearer.ReasonIssuer},
		"no SPIFFE ID":                  {mint(t, signer, nil, none), bearer.ReasonIssuer},
		"iss alone":                     {mint(t, signer, nil, map[string]any{"iss": cloud, "sub": "user-1"}), bearer.ReasonIssuer},
		"an access token":               {mint(t, signer, map[string]any{"typ": "at+jwt"}, with(nil)), bearer.ReasonType},
		"no kid":                        {mint(t, signer, map[string]any{"kid": nil}, with(nil)), bearer.ReasonUnknownKey},
		"no exp":                        {mint(t, signer, nil, with(map[string]any{"exp": nil})), bearer.ReasonExpiry},
		"no aud":                        {mint(t, signer, nil, with(map[string]any{"aud": nil})), bearer.ReasonAudience},
		"another's aud":                 {mint(t, signer, nil, with(map[string]any{"aud": "elsewhere"})), bearer.ReasonAudience},
		"the trust domain's key at iss": {mint(t, signer, nil, map[string]any{"iss": idpToo, "sub": apiID}), bearer.ReasonUnknownKey},
		"JOSE from an ordinary issuer":  {mint(t, idp, map[string]any{"typ": "JOSE"}, nil), bearer.ReasonType},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), c.token)
			refused(t, err, c.want)
		})
	}
}

func TestKeysOfABundleAreTakenByTheirUse(t *testing.T) {
	signer := certstest.NewIssuer(t, cloud)
	token := mint(t, signer, nil, map[string]any{"iss": nil, "sub": apiID})
	file := filepath.Join(t.TempDir(), "cloud.json")
	for use, want := range map[string]bool{"jwt-svid": true, "x509-svid": false} {
		doc := bytes.ReplaceAll(signer.JWKS(), []byte(`"use": "sig"`), []byte(`"use": "`+use+`"`))
		if err := os.WriteFile(file, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{{URL: cloud, Audiences: []string{"fairlead"}, JWKS: file}}})
		if err == nil {
			_, err = v.Verify(t.Context(), token)
		}
		if (err == nil) != want {
			t.Errorf("use %s: %v", use, err)
		}
	}
}

func TestANewKeyOfTheBundleCountsAtOnce(t *testing.T) {
	signer, _, v := svids(t)
	signer.Rotate(t, true)
	if _, err := v.Verify(t.Context(), mint(t, signer, nil, map[string]any{"iss": nil, "sub": apiID})); err == nil {
		return
	}
	if err := v.Refresh(t.Context()); err != nil { // a load has just been: the next comes with the poll, or with this
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), mint(t, signer, nil, map[string]any{"iss": nil, "sub": apiID})); err != nil {
		t.Error(err)
	}
}

func TestATrustDomainThatCannotBeAnIssuerIsRefused(t *testing.T) {
	bundle := func(certs.TrustDomain) ([]byte, error) { return nil, errors.New("none") }
	for name, c := range map[string]struct {
		issuer bearer.Issuer
		bundle func(certs.TrustDomain) ([]byte, error)
		want   string
	}{
		"a path":                {bearer.Issuer{URL: apiID}, bundle, "trust domain"},
		"upper case":            {bearer.Issuer{URL: "spiffe://Cloud.example"}, bundle, "trust domain"},
		"EdDSA alone":           {bearer.Issuer{URL: cloud, Algorithms: []string{"EdDSA"}}, bundle, "ECDSA or RSA"},
		"a URL":                 {bearer.Issuer{URL: cloud, JWKS: "https://cloud.example/keys"}, bundle, "file of a SPIFFE bundle"},
		"no keys anywhere":      {bearer.Issuer{URL: cloud}, nil, "Workload API"},
		"keys that do not load": {bearer.Issuer{URL: cloud}, bundle, "none"},
	} {
		c.issuer.Audiences = []string{"fairlead"}
		_, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{c.issuer}, Bundle: c.bundle})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, expected %q", name, err, c.want)
		}
	}
}
