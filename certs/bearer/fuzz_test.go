package bearer

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs/certstest"
)

func FuzzVerify(f *testing.F) {
	idp := certstest.NewIssuer(f, "https://idp.example")
	v, err := New(Config{Issuers: []Issuer{{URL: idp.URL, Audiences: []string{"fairlead"}, JWKS: idp.WriteJWKS(f, f.TempDir())}}})
	if err != nil {
		f.Fatal(err)
	}
	good := idp.Mint(f, nil)
	for _, raw := range []string{good, good + ".", "", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat(".", 9000)} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		token, err := v.Verify(t.Context(), raw)
		if err == nil && (raw != good || token == nil) {
			t.Errorf("%q was taken", raw) // nothing else has been signed, in this spelling
		}
		if _, ok := errors.AsType[*InvalidError](err); err != nil && !ok {
			t.Errorf("error of another kind: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"alg":"ES256","kid":"k","typ":"JWT"}`, `{"iss":"a","exp":1}`}, {`{"alg":"none"}`, `{}`},
		{`{"alg":"ES256","crit":["b64"],"b64":false}`, `{"a":[1,{"b":null}]}`}, {`{"alg":"ES256","alg":"RS256"}`, `{"a":1,"a":2}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		encode := base64.RawURLEncoding.EncodeToString
		u, err := parse(encode([]byte(header)) + "." + encode([]byte(payload)) + ".AAAA")
		if err != nil {
			if invalid, ok := errors.AsType[*InvalidError](err); !ok || len(invalid.Detail) > 600 {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if algorithms[u.alg] == nil || len(u.kid) > maxKid || u.claims == nil {
			t.Errorf("took %q %q as %+v", header, payload, u)
		}
		if err := checkShape(u); err != nil {
			return
		}
		if token, err := readClaims(u); err == nil && (token.Subject == "" || token.Expires.Unix() > latest || token.Expires.Unix() < 0) {
			t.Errorf("took %q as %+v", payload, token)
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	idp := certstest.NewIssuer(f, "https://idp.example")
	for _, seed := range []string{
		string(idp.JWKS()), `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AA"}]}`, `<html>`,
		`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"}]}`, `{"keys":[{"kty":"OKP","crv":"X25519","x":"AA"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parseKeySet(b, false)
		if err != nil {
			return
		}
		if len(set.keys) == 0 || len(set.keys) > maxKeys {
			t.Errorf("%d keys", len(set.keys))
		}
		for _, k := range set.keys {
			if !fitsAny(k.public) {
				t.Errorf("key of kind %T", k.public)
			}
		}
	})
}
