package bearer_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// J02
func TestUnsignedAndHMACTokensAreRefused(t *testing.T) {
	idp, v := fromFile(t)
	payload := fmt.Sprintf(`{"iss":%q,"aud":"fairlead","sub":"u","exp":%d}`, idpURL, time.Now().Add(time.Minute).Unix())
	for _, alg := range []string{"none", "None", "nOnE", "NONE", "", "es256", "ES256 "} {
		head := b64([]byte(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, idp.Kid()))) + "." + b64([]byte(payload))
		_, err := v.Verify(t.Context(), head+".")
		refused(t, err, bearer.ReasonMalformed)
		_, err = v.Verify(t.Context(), head+".AAAA")
		refused(t, err, bearer.ReasonAlgorithm)
	}
	_, err := v.Verify(t.Context(), b64([]byte(`{"kid":"x"}`))+"."+b64([]byte(payload))+".AAAA")
	refused(t, err, bearer.ReasonAlgorithm)

	pub := publicKey(t, idp)
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "DER": der, "JWK": idp.JWKS(),
	} {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"iss": idpURL, "aud": "fairlead", "sub": "u", "exp": time.Now().Add(time.Minute).Unix(),
		})
		token.Header["kid"] = idp.Kid()
		raw, err := token.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(t.Context(), raw)
		if refused(t, err, bearer.ReasonAlgorithm); err == nil {
			t.Errorf("HS256 with the public key as %s", name)
		}
	}
}

// J03
func TestTokenForSomebodyElseIsRefused(t *testing.T) {
	idp, v := fromFile(t)
	for name, test := range map[string]struct {
		claims map[string]any
		want   bearer.Reason
	}{
		"iss of another":        {map[string]any{"iss": "https://evil.example"}, bearer.ReasonIssuer},
		"iss with a slash":      {map[string]any{"iss": idpURL + "/"}, bearer.ReasonIssuer},
		"iss in upper case":     {map[string]any{"iss": "https://IDP.example"}, bearer.ReasonIssuer},
		"iss missing":           {map[string]any{"iss": nil}, bearer.ReasonIssuer},
		"iss an array":          {map[string]any{"iss": []string{idpURL}}, bearer.ReasonIssuer},
		"aud of another":        {map[string]any{"aud": "somebody"}, bearer.ReasonAudience},
		"aud array lacking us":  {map[string]any{"aud": []string{"a", "b"}}, bearer.ReasonAudience},
		"aud with us as a part": {map[string]any{"aud": "fairlead2"}, bearer.ReasonAudience},
		"aud empty":             {map[string]any{"aud": ""}, bearer.ReasonAudience},
		"aud empty array":       {map[string]any{"aud": []string{}}, bearer.ReasonAudience},
		"aud of numbers":        {map[string]any{"aud": []any{"fairlead", 1}}, bearer.ReasonAudience},
		"aud missing":           {map[string]any{"aud": nil}, bearer.ReasonAudience},
		"sub missing":           {map[string]any{"sub": nil}, bearer.ReasonSubject},
		"sub empty":             {map[string]any{"sub": ""}, bearer.ReasonSubject},
		"sub a number":          {map[string]any{"sub": 7}, bearer.ReasonSubject},
		"exp missing":           {map[string]any{"exp": nil}, bearer.ReasonExpiry},
		"scope a number":        {map[string]any{"scope": 7}, bearer.ReasonMalformed},
		"scp of numbers":        {map[string]any{"scp": []any{1}}, bearer.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), idp.Mint(t, test.claims))
			refused(t, err, test.want)
		})
	}
}

// J04
func TestTimesThatAreNoTimesAreRefused(t *testing.T) {
	idp, v := fromFile(t)
	rest := fmt.Sprintf(`"iss":%q,"aud":"fairlead","sub":"u"`, idpURL)
	soon := time.Now().Add(time.Minute).Unix()
	for payload, want := range map[string]bearer.Reason{
		fmt.Sprintf(`{%s,"exp":"%d"}`, rest, soon):                                                           bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":1e308}`, rest):                                                                bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":1e400}`, rest):                                                                bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":-1}`, rest):                                                                   bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":0}`, rest):                                                                    bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":null}`, rest):                                                                 bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":[%d]}`, rest, soon):                                                           bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":9223372036854775807}`, rest):                                                  bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":%d,"exp":%d}`, rest, soon, soon+9):                                            bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"\u0065xp":%d}`, rest, soon, soon+9):                                       bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"a":{"b":1,"b":2}}`, rest, soon):                                           bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d} {}`, rest, soon):                                                          bearer.ReasonMalformed,
		fmt.Sprintf(`[{%s,"exp":%d}]`, rest, soon):                                                           bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"nbf":"0"}`, rest, soon):                                                   bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"iat":-5}`, rest, soon):                                                    bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"a":%s1%s}`, rest, soon, strings.Repeat("[", 40), strings.Repeat("]", 40)): bearer.ReasonMalformed,
	} {
		_, err := v.Verify(t.Context(), idp.SignRaw(t, fmt.Sprintf(`{"alg":"ES256","kid":%q}`, idp.Kid()), payload))
		t.Log(payload)
		refused(t, err, want)
	}
	_, err := v.Verify(t.Context(), idp.SignRaw(t, fmt.Sprintf(`{"alg":"ES256","kid":%[1]q,"kid":%[1]q}`, idp.Kid()),
		fmt.Sprintf(`{%s,"exp":%d}`, rest, soon)))
	refused(t, err, bearer.ReasonMalformed)
}

// J05
func TestTokenOfAnotherPurposeIsRefused(t *testing.T) {
	idp, v := fromFile(t)
	for name, test := range map[string]struct {
		header, claims map[string]any
		want           bearer.Reason
	}{
		"unknown crit":    {map[string]any{"crit": []string{"x"}, "x": 1}, nil, bearer.ReasonCritical},
		"empty crit":      {map[string]any{"crit": []string{}}, nil, bearer.ReasonCritical},
		"crit null":       {map[string]any{"crit": json.RawMessage("null")}, nil, bearer.ReasonCritical},
		"b64 false":       {map[string]any{"b64": false}, nil, bearer.ReasonCritical},
		"b64 true":        {map[string]any{"b64": true}, nil, bearer.ReasonCritical},
		"logout token":    {map[string]any{"typ": "logout+jwt"}, nil, bearer.ReasonType},
		"DPoP proof":      {map[string]any{"typ": "dpop+jwt"}, nil, bearer.ReasonType},
		"JOSE":            {map[string]any{"typ": "JOSE"}, nil, bearer.ReasonType},
		"typ a number":    {map[string]any{"typ": 1}, nil, bearer.ReasonMalformed},
		"kid a number":    {map[string]any{"kid": 1}, nil, bearer.ReasonMalformed},
		"alg an array":    {map[string]any{"alg": []string{"ES256"}}, nil, bearer.ReasonMalformed},
		"ID token":        {map[string]any{"typ": "JWT"}, map[string]any{"nonce": "n"}, bearer.ReasonType},
		"ID token's hash": {nil, map[string]any{"at_hash": "h"}, bearer.ReasonType},
		"old logout":      {map[string]any{"typ": nil}, map[string]any{"events": map[string]any{"x": 1}}, bearer.ReasonType},
		"Keycloak's ID":   {map[string]any{"typ": "JWT"}, map[string]any{"typ": "ID"}, bearer.ReasonType},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := idp.Sign(test.header, test.claims)
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Verify(t.Context(), raw)
			refused(t, err, test.want)
		})
	}
	for _, typ := range []any{nil, "JWT", "jwt", "at+jwt", "AT+JWT"} {
		raw, err := idp.Sign(map[string]any{"typ": typ}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("typ %v: %v", typ, err)
		}
	}
}

// J06
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

// J07
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

func TestTokenBeyond8KiBIsRefusedUnread(t *testing.T) {
	idp, v := fromFile(t)
	_, err := v.Verify(t.Context(), strings.Repeat("x", 1<<20))
	refused(t, err, bearer.ReasonTooLarge)
	_, err = v.Verify(t.Context(), idp.Mint(t, map[string]any{"pad": strings.Repeat("x", 8<<10)}))
	refused(t, err, bearer.ReasonTooLarge)
}

func TestMalformedTokensAreRefused(t *testing.T) {
	idp, v := fromFile(t)
	good := idp.Mint(t, nil)
	parts := strings.Split(good, ".")
	for _, raw := range []string{
		"", ".", "..", "...", "a.b.c", good + ".", good + ".x", "." + good, " " + good, good + "\n", good + "=",
		parts[0] + "\n." + parts[1] + "." + parts[2], parts[0] + "." + parts[1], b64([]byte("[]")) + "." + parts[1] + "." + parts[2],
		b64([]byte("null")) + "." + parts[1] + "." + parts[2], parts[0] + "." + b64([]byte("1")) + "." + parts[2],
	} {
		_, err := v.Verify(t.Context(), raw)
		if err == nil {
			t.Errorf("%q was taken", raw)
			continue
		}
		refused(t, err, bearer.ReasonMalformed)
	}
	flipped := []byte(good)
	flipped[len(flipped)-10] ^= 1 // still base64url, or refused as malformed
	if _, err := v.Verify(t.Context(), string(flipped)); err == nil {
		t.Error("a changed signature was taken")
	}
}

func TestErrorsNeverContainTheToken(t *testing.T) {
	idp, v := fromFile(t)
	for _, claims := range []map[string]any{
		{"iss": "https://evil.example"}, {"aud": "x"}, {"exp": 1}, {"exp": "soon"}, {"sub": nil}, {"nbf": 9e9}, {"nonce": "n"},
	} {
		raw, err := idp.Sign(map[string]any{"typ": "JWT"}, claims)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(t.Context(), raw)
		if err == nil {
			t.Fatalf("%v was taken", claims)
		}
		for part := range strings.SplitSeq(raw, ".") {
			if strings.Contains(err.Error(), part) || strings.Contains(fmt.Sprintf("%#v", err), part) {
				t.Errorf("%v: %v", claims, err)
			}
		}
	}
}

func TestEveryAllowedAlgorithmWorksWithItsOwnKeysOnly(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPub, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[%s,%s,%s,%s,{"kty":"EC","crv":"secp256k1","kid":"k","x":"AA","y":"AA"},{"kty":"RSA","use":"enc","kid":"e","n":"AA","e":"AQAB"}]}`,
		ecJWK(t, "p256", &p256.PublicKey), ecJWK(t, "p384", &p384.PublicKey), rsaJWK("rsa", &r.PublicKey),
		fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":"ed","x":%q}`, b64(edPub)))
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	all := newVerifier(t, bearer.Issuer{URL: idpURL, Audiences: []string{"fairlead"}, JWKS: path})
	only := newVerifier(t, bearer.Issuer{URL: idpURL, Audiences: []string{"fairlead"}, JWKS: path, Algorithms: []string{"ES256"}})
	sign := func(method jwt.SigningMethod, kid string, key any) string {
		token := jwt.NewWithClaims(method, jwt.MapClaims{
			"iss": idpURL, "aud": "fairlead", "sub": "u", "exp": time.Now().Add(time.Minute).Unix(),
		})
		token.Header["kid"] = kid
		raw, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, test := range []struct {
		method jwt.SigningMethod
		kid    string
		key    any
		others []string
	}{
		{jwt.SigningMethodES256, "p256", p256, []string{"p384", "rsa", "ed", "k"}},
		{jwt.SigningMethodES384, "p384", p384, []string{"p256", "rsa", "ed"}},
		{jwt.SigningMethodRS256, "rsa", r, []string{"p256", "p384", "ed", "e"}},
		{jwt.SigningMethodPS256, "rsa", r, []string{"p256", "p384", "ed"}},
		{jwt.SigningMethodEdDSA, "ed", ed, []string{"p256", "p384", "rsa"}},
	} {
		raw := sign(test.method, test.kid, test.key)
		if _, err := all.Verify(t.Context(), raw); err != nil {
			t.Errorf("%s: %v", test.method.Alg(), err)
		}
		if test.method != jwt.SigningMethodES256 {
			_, err := only.Verify(t.Context(), raw)
			refused(t, err, bearer.ReasonAlgorithm)
		}
		for _, kid := range test.others {
			_, err := all.Verify(t.Context(), sign(test.method, kid, test.key))
			refused(t, err, bearer.ReasonUnknownKey)
		}
	}
	_, err = all.Verify(t.Context(), sign(jwt.SigningMethodRS512, "rsa", r))
	refused(t, err, bearer.ReasonAlgorithm)
}

func TestBadConfigurationIsRefused(t *testing.T) {
	good := bearer.Issuer{URL: idpURL, Audiences: []string{"fairlead"}, JWKS: "https://idp.example/keys"}
	for name, change := range map[string]func(*bearer.Issuer){
		"no URL":                 func(i *bearer.Issuer) { i.URL = "" },
		"no audience":            func(i *bearer.Issuer) { i.Audiences = nil },
		"empty audience":         func(i *bearer.Issuer) { i.Audiences = []string{"a", ""} },
		"HMAC":                   func(i *bearer.Issuer) { i.Algorithms = []string{"HS256"} },
		"none":                   func(i *bearer.Issuer) { i.Algorithms = []string{"ES256", "none"} },
		"plain http":             func(i *bearer.Issuer) { i.JWKS = "http://idp.example/keys" },
		"plain http by metadata": func(i *bearer.Issuer) { i.JWKS = "http://169.254.169.254/keys" },
		"another scheme":         func(i *bearer.Issuer) { i.JWKS = "file:///etc/passwd" },
		"a password":             func(i *bearer.Issuer) { i.JWKS = "https://u:hunter2@idp.example/keys" },
		"file that is not there": func(i *bearer.Issuer) { i.JWKS = "no/such/file" },
		"discovery at no URL":    func(i *bearer.Issuer) { i.URL, i.JWKS = "idp", "" },
		"discovery by http":      func(i *bearer.Issuer) { i.URL, i.JWKS = "http://idp.example", "" },
	} {
		issuer := good
		change(&issuer)
		_, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{issuer}})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{good, good}}); err == nil {
		t.Error("one issuer twice was taken")
	}
	if _, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{good}}); err != nil {
		t.Error(err)
	}
}

func ecJWK(t *testing.T, kid string, pub *ecdsa.PublicKey) string {
	t.Helper()
	b, err := pub.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b = b[1:]
	return fmt.Sprintf(`{"kty":"EC","crv":%q,"kid":%q,"x":%q,"y":%q}`, pub.Params().Name, kid, b64(b[:len(b)/2]), b64(b[len(b)/2:]))
}

func rsaJWK(kid string, pub *rsa.PublicKey) string {
	return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":%q}`, kid, b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes()))
}

func publicKey(t *testing.T, idp *certstest.Issuer) any {
	t.Helper()
	b, err := idp.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PrivateKey).Public()
}
