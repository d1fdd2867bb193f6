package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs"
)

func mustID(s string) certs.ID {
	id, err := certs.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func TestTwoHostsAreAmbiguous(t *testing.T) {
	for host, ok := range map[string]bool{"a.example": true, "A.Example": true, "b.example": false} {
		r := &http.Request{Method: "GET", Host: "a.example", Header: http.Header{"Host": {host}}}
		if err := checkHeader(r, Limits{}.withDefaults()); (err == nil) != ok {
			t.Errorf("Host: %s beside :authority a.example: %v", host, err)
		}
	}
	for _, r := range []*http.Request{
		{Method: "GET"}, {Method: "GET", Host: "a b"}, {Method: "", Host: "a"}, {Method: "G E T", Host: "a"}, {Method: "GÉT", Host: "a"},
	} {
		if err := checkHeader(r, Limits{}.withDefaults()); err == nil {
			t.Errorf("%s for host %q passed", r.Method, r.Host)
		}
	}
}

func FuzzStrip(f *testing.F) {
	for _, name := range []string{"Fairlead-Caller", "X_forwarded-For", "authorization", "Txn-Token", "Cookie", "fAIRLEAD_x", "Forwarded"} {
		f.Add(name, "v")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		h := http.Header{name: {value}, "Kept": {"kept"}}
		strip(h, false)
		for left := range h {
			s := strings.ReplaceAll(strings.ToLower(left), "_", "-")
			for _, prefix := range []string{"fairlead-", "x-forwarded", "forwarded", "x-real-ip", "txn-token", "authorization", "proxy-authorization"} {
				if s == prefix || strings.HasSuffix(prefix, "-") && strings.HasPrefix(s, prefix) || prefix == "x-forwarded" && strings.HasPrefix(s, prefix) {
					t.Fatalf("%q is left", left)
				}
			}
		}
		if h.Get("Kept") != "kept" {
			t.Fatal("an innocent header is gone")
		}
	})
}
