package bearer_test

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs/bearer"
)

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
