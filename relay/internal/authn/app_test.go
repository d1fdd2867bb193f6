package authn

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestAnAppProvesItselfByItsSecret(t *testing.T) {
	old, next := sha256.Sum256([]byte("old")), sha256.Sum256([]byte("next"))
	apps := Apps{"shop": {ID: "shop", Secrets: [][sha256.Size]byte{old, next}, Tunnels: []protocol.TunnelName{"orders"}}}
	for c, want := range map[Credentials]bool{
		{"shop", "old"}: true, {"shop", "next"}: true, {"shop", "other"}: false, {"shop", ""}: false, {"Shop", "old"}: false, {"", ""}: false, {"nobody", "old"}: false,
	} {
		if _, ok := apps.Find(c); ok != want {
			t.Errorf("%v: got %t", c, ok)
		}
	}
	if _, ok := Apps(nil).Find(Credentials{"shop", "old"}); ok {
		t.Error("found where there is none")
	}
	if app := apps["shop"]; !app.May("orders") || app.May("ledger") {
		t.Error("the contract is read wrongly")
	}
}

func TestCredentialsAreFoundInTheirTwoHeadersOrInBasic(t *testing.T) {
	headers := func(id, secret string) http.Header {
		return http.Header{HeaderClientID: {id}, HeaderClientSecret: {secret}}
	}
	for name, c := range map[string]struct {
		header http.Header
		want   Credentials
		ok     bool
		code   protocol.Code
	}{
		"Basic":                    {http.Header{"Authorization": {"Basic c2hvcDpzOjE="}}, Credentials{"shop", "s:1"}, true, protocol.OK},
		"headers":                  {headers("shop", "s"), Credentials{"shop", "s"}, true, protocol.OK},
		"headers beside a token":   {http.Header{HeaderClientID: {"shop"}, HeaderClientSecret: {"s"}, "Authorization": {"Bearer x"}}, Credentials{"shop", "s"}, true, protocol.OK},
		"none":                     {http.Header{}, Credentials{}, false, protocol.OK},
		"a token":                  {http.Header{"Authorization": {"Bearer x"}}, Credentials{}, false, protocol.OK},
		"half of the headers":      {http.Header{HeaderClientID: {"shop"}}, Credentials{}, true, protocol.BadRequest},
		"two ids":                  {http.Header{HeaderClientID: {"shop", "other"}, HeaderClientSecret: {"s"}}, Credentials{}, true, protocol.BadRequest},
		"two authorizations":       {http.Header{"Authorization": {"Basic c2hvcDpz", "Basic c2hvcDpz"}}, Credentials{}, true, protocol.BadRequest},
		"Basic that is none":       {http.Header{"Authorization": {"Basic !"}}, Credentials{}, true, protocol.CredentialsInvalid},
		"Basic without a colon":    {http.Header{"Authorization": {"Basic c2hvcA=="}}, Credentials{}, true, protocol.CredentialsInvalid},
		"Basic without its secret": {http.Header{"Authorization": {"Basic"}}, Credentials{}, true, protocol.CredentialsInvalid},
	} {
		got, ok, err := ClientCredentials(c.header, false)
		code := protocol.OK
		if err != nil {
			code = protocol.AsError(err).Code
			got = Credentials{}
		}
		if got != c.want || ok != c.ok || code != c.code {
			t.Errorf("%s: got %v, %t, %v", name, got, ok, err)
		}
	}
}

func FuzzClientCredentials(f *testing.F) {
	f.Add("Basic c2hvcDpz", "", "")
	f.Add("", "shop", "s")
	f.Fuzz(func(t *testing.T, value, id, secret string) {
		h := http.Header{"Authorization": {value}}
		if id != "" {
			h[HeaderClientID], h[HeaderClientSecret] = []string{id}, []string{secret}
		}
		c, _, err := ClientCredentials(h, false)
		if err == nil && id != "" && (c.ID != id || c.Secret != secret) {
			t.Errorf("got %v of %q, %q", c, id, secret)
		}
		if err != nil && len(value) > 20 && strings.Contains(err.Error(), value[6:]) {
			t.Errorf("the error has the secret: %v", err)
		}
	})
}
