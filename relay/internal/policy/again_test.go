package policy

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

func TestACallThatRunsIsJudgedByWhatItHasProved(t *testing.T) {
	w := newWorld(t)
	w.withApps()
	w.directories = map[string]Directory{"corp": new(login.Directory), "other": new(login.Directory)}
	w.codes = map[string]Codes{"": new(login.TOTP)}
	token := func(rule tunnel.TokenRule) *tunnel.Require {
		rule.Issuer = w.idp.URL
		return tunnel.WantToken(&rule)
	}
	app, code := &tunnel.Require{App: new(tunnel.AppRule)}, &tunnel.Require{Code: new(tunnel.CodeRule)}
	corp := &tunnel.Require{User: &tunnel.UserRule{Directory: "corp"}}
	ada := authn.Principal{Caller: w.id("spiffe://cloud.example/api/shop"), App: w.apps["shop"], Secret: w.apps["shop"].Secrets[0], Second: true,
		Login: &login.User{Directory: "corp", Name: "ada", Groups: []string{"clerks"}},
		Token: &bearer.Token{Issuer: w.idp.URL, Subject: "ada", Scopes: []string{"orders.read"}, Claims: map[string]any{"acr": "gold"}, Expires: time.Now().Add(-time.Hour)}}
	nobody := authn.Principal{Caller: ada.Caller}
	rotated := authn.Principal{Caller: ada.Caller, App: ada.App, Secret: [32]byte{1}}
	for what, c := range map[string]struct {
		wants     *tunnel.Require
		principal authn.Principal
		code      protocol.Code
	}{
		"an expired token":         {token(tunnel.TokenRule{Scopes: []string{"orders.read"}}), ada, protocol.OK}, // it was good when the call began
		"another scope":            {token(tunnel.TokenRule{Scopes: []string{"orders.write"}}), ada, protocol.ScopeMissing},
		"another claim":            {token(tunnel.TokenRule{Claims: []tunnel.ClaimRule{{Name: "groups", Any: []string{"x"}}}}), ada, protocol.ScopeMissing},
		"a weaker login":           {token(tunnel.TokenRule{ACR: []string{"platinum"}}), ada, protocol.MFARequired},
		"another issuer":           {tunnel.WantToken(&tunnel.TokenRule{Issuer: w.idpB.URL}), ada, protocol.TokenInvalid},
		"no token":                 {token(tunnel.TokenRule{}), nobody, protocol.TokenInvalid},
		"an app":                   {app, ada, protocol.OK},
		"an app without a secret":  {app, rotated, protocol.CredentialsInvalid},
		"no app":                   {app, nobody, protocol.CredentialsInvalid},
		"a user":                   {corp, ada, protocol.OK},
		"a user of another group":  {&tunnel.Require{User: &tunnel.UserRule{Directory: "corp", Groups: []string{"x"}}}, ada, protocol.Denied},
		"of another directory":     {&tunnel.Require{User: &tunnel.UserRule{Directory: "other"}}, ada, protocol.CredentialsMissing},
		"no user":                  {corp, nobody, protocol.CredentialsMissing},
		"a code":                   {code, ada, protocol.OK},
		"no code":                  {code, nobody, protocol.MFARequired},
		"an SVID":                  {&tunnel.Require{SVID: true}, nobody, protocol.OK},
		"all":                      {&tunnel.Require{All: []*tunnel.Require{app, code}}, ada, protocol.OK},
		"all but one":              {&tunnel.Require{All: []*tunnel.Require{app, code}}, rotated, protocol.CredentialsInvalid},
		"any":                      {&tunnel.Require{Any: []*tunnel.Require{token(tunnel.TokenRule{}), {SVID: true}}}, nobody, protocol.OK},
		"none of any":              {&tunnel.Require{Any: []*tunnel.Require{app, code}}, nobody, protocol.CredentialsInvalid},
		"nothing wanted":           {nil, nobody, protocol.OK},
		"what no file can ask for": {new(tunnel.Require), authn.Principal{}, protocol.CallerDenied},
	} {
		w.asking(c.wants)
		got := protocol.OK
		if _, err := w.gate.Again(c.principal, &Request{Network: protocol.HTTP, Tunnel: "orders", Method: "GET", Path: "/v1"}, time.Now()); err != nil {
			got = protocol.AsError(err).Code
		}
		if got != c.code && !(what == "what no file can ask for" && got != protocol.OK) {
			t.Errorf("%s: got %v, want %v", what, got, c.code)
		}
	}
	w.asking(app)
	w.apps["shop"].Tunnels = nil
	if _, err := w.gate.Again(ada, &Request{Network: protocol.HTTP, Tunnel: "orders", Method: "GET", Path: "/v1"}, time.Now()); err == nil {
		t.Error("an app whose contract has ended")
	}
}
