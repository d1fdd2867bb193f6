package authn

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestBearerIsFoundWhereItMayBe(t *testing.T) {
	for _, h := range []http.Header{
		{"Authorization": {"Bearer abc.def-_~+/=="}},
		{"Authorization": {"bEARER   abc.def-_~+/=="}},
		{"Authorization": {"Bearer abc.def-_~+/==  "}},
	} {
		for _, proxy := range []bool{false, true} {
			if got, _, err := AccessToken(h, proxy); got != "abc.def-_~+/==" || err != nil {
				t.Errorf("%v: got %q, %v", h, got, err)
			}
		}
	}
	if got, scheme, err := AccessToken(http.Header{"Authorization": {"dpop abc"}}, false); got != "abc" || scheme != SchemeDPoP || err != nil {
		t.Errorf("got %q, %q, %v", got, scheme, err)
	}
	if got, _, err := AccessToken(http.Header{"Proxy-Authorization": {"Bearer abc"}}, true); got != "abc" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEveryOtherBearerIsRefused(t *testing.T) { // J01
	long := strings.Repeat("a", maxToken+1)
	for _, c := range []struct {
		header http.Header
		proxy  bool
		want   protocol.Code
	}{
		{http.Header{}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {""}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"Bearer"}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"Bearer  "}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"Basic YTpi"}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"BearerX abc"}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"DPoP"}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"Bearer\tabc"}}, false, protocol.TokenMissing},
		{http.Header{"Proxy-Authorization": {"Bearer abc"}}, false, protocol.TokenMissing},
		{http.Header{"Cookie": {"access_token=abc"}, "X-Access-Token": {"abc"}}, false, protocol.TokenMissing},
		{http.Header{"Authorization": {"Bearer a", "Bearer a"}}, false, protocol.BadRequest},
		{http.Header{"Authorization": {"Bearer a", "Basic b"}}, true, protocol.BadRequest},
		{http.Header{"Proxy-Authorization": {"Bearer a", "Bearer b"}}, true, protocol.BadRequest},
		{http.Header{"Authorization": {"Bearer a"}, "Proxy-Authorization": {"Bearer a"}}, true, protocol.BadRequest},
		{http.Header{"Authorization": {"Bearer a, Bearer b"}}, false, protocol.TokenInvalid},
		{http.Header{"Authorization": {"Bearer a b"}}, false, protocol.TokenInvalid},
		{http.Header{"Authorization": {"Bearer a\x00"}}, false, protocol.TokenInvalid},
		{http.Header{"Authorization": {"Bearer ==="}}, false, protocol.TokenInvalid},
		{http.Header{"Authorization": {"Bearer a=b"}}, false, protocol.TokenInvalid},
		{http.Header{"Authorization": {"Bearer " + long}}, false, protocol.TokenInvalid},
	} {
		got, _, err := AccessToken(c.header, c.proxy)
		if refusal, ok := errors.AsType[*protocol.Error](err); !ok || refusal.Code != c.want || got != "" {
			t.Errorf("%.60v: got %q, %v, want %v", c.header, got, err, c.want)
		}
	}
	if _, _, err := AccessToken(http.Header{"Authorization": {"Bearer " + long[1:]}}, false); err != nil {
		t.Errorf("8 KiB: got %v", err)
	}
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer abc", "", false)
	f.Add("bearer  a.b.c=", "Basic x", true)
	f.Add("", "Bearer a", true)
	f.Fuzz(func(t *testing.T, value, over string, proxy bool) {
		h := http.Header{"Authorization": {value}}
		if over != "" {
			h["Proxy-Authorization"] = []string{over}
		}
		token, _, err := AccessToken(h, proxy)
		if err == nil {
			if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n,\x00") || !strings.Contains(value, token) {
				t.Fatalf("took %q out of %q", token, value)
			}
			return
		}
		refusal, ok := errors.AsType[*protocol.Error](err)
		if !ok || token != "" {
			t.Fatalf("got %q, %T", token, err)
		}
		if _, secret, _ := strings.Cut(value, " "); len(secret) > 20 && strings.Contains(refusal.Error(), secret) {
			t.Fatalf("the error contains the token: %v", refusal)
		}
	})
}
