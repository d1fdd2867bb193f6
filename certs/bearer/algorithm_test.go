package bearer_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

func TestUnsignedAndHMACTokensAreRefused(t *testing.T) {
	idp, v := fromFile(t)
	payload := fmt.Sprintf(`{"iss":%q,"aud":"fairlead","sub":"u","exp":%d}`, idpURL, time.Now().Add(time.Minute).Unix())
	for _, alg := range []string{"none", "None", "nOnE", "NONE", "", "es256", "ES256 "} {
		head := b64(fmt.Appendf(nil, `{"alg":%q,"kid":%q}`, alg, idp.Kid())) + "." + b64([]byte(payload))
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
