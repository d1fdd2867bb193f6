package bearer_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

func TestBadKeySetsKeepTheOldKeys(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	idp := certstest.NewIdP(t)
	v, log := fetching(t, idp.URL, idp.JWKSURL())
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := idp.Mint(t, nil)
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	goodKey := rsaJWK("good", &private.PublicKey)
	for name, answer := range map[string]http.HandlerFunc{
		"HTML":           say("<html>sorry</html>"),
		"empty":          say(""),
		"empty object":   say("{}"),
		"empty set":      say(`{"keys":[]}`),
		"null":           say("null"),
		"private key":    say(`{"keys":[` + strings.TrimSuffix(goodKey, "}") + `,"d":"AQAB"}]}`),
		"HMAC key":       say(`{"keys":[` + goodKey + `,{"kty":"oct","k":"c2VjcmV0"}]}`),
		"RSA of 512":     say(`{"keys":[` + goodKey + "," + weakRSA(512) + `]}`),
		"RSA of 2,040":   say(`{"keys":[` + goodKey + "," + weakRSA(2040) + `]}`),
		"off the curve":  say(`{"keys":[{"kty":"EC","crv":"P-256","kid":"x","x":"AQ","y":"AQ"}]}`),
		"unusable only":  say(`{"keys":[{"kty":"EC","crv":"secp256k1","kid":"x","x":"AQ","y":"AQ"}]}`),
		"101 keys":       say(`{"keys":[` + strings.Repeat(goodKey+",", 100) + goodKey + `]}`),
		"more than 1MiB": say(`{"keys":[` + goodKey + `]}` + strings.Repeat(" ", 1<<20)),
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for range 100 << 4 { // 100 MiB at most
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write(idp.JWKS()) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/keys", http.StatusFound)
		},
		"redirect home": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/jwks.json?again", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			idp.Answer(answer)
			before := idp.Hits()
			if err := v.Refresh(t.Context()); err == nil {
				t.Error("no error")
			}
			if n := idp.Hits() - before; n != 1 {
				t.Errorf("%d requests", n)
			}
			if _, err := v.Verify(t.Context(), good); err != nil {
				t.Errorf("the old keys are gone: %v", err)
			}
			if _, err := v.Verify(t.Context(), idp.Mint(t, nil)); err != nil {
				t.Errorf("the old keys are gone: %v", err)
			}
		})
	}
	if strings.Contains(log.String(), "c2VjcmV0") || strings.Count(log.String(), "level=WARN") == 0 {
		t.Errorf("log:\n%s", log)
	}
	idp.Answer(nil)
	if err := v.Refresh(t.Context()); err != nil || !strings.Contains(log.String(), "load again") {
		t.Errorf("the end of the fault: %v\n%s", err, log)
	}
}

func TestDiscoveryWantsTheIssuersExactName(t *testing.T) {
	idp := certstest.NewIdP(t)
	v, _ := fetching(t, idp.URL, "")
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), idp.Mint(t, nil)); err != nil {
		t.Error(err)
	}
	slash, _ := fetching(t, idp.URL+"/", "")
	if err := slash.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "expected") {
		t.Errorf("a slash more: %v", err)
	}
	if err := slash.Ready(); !errors.Is(err, bearer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
}

func weakRSA(bits int) string {
	n := bytes.Repeat([]byte{0xff}, bits/8)
	return fmt.Sprintf(`{"kty":"RSA","kid":"weak","n":%q,"e":"AQAB"}`, b64(n))
}
