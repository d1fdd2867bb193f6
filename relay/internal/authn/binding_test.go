package authn

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/protocol"
)

func TestABoundTokenIsWorthNothingToAnotherCaller(t *testing.T) { // J14
	ca := certstest.NewCA(t, "cloud.example")
	mine := chain(t, ca.Issue(t, "spiffe://cloud.example/api/orders"))
	sum := sha256.Sum256(mine[0].Raw)
	x5t := base64.RawURLEncoding.EncodeToString(sum[:])
	owner, thief := NewPeer(mine), NewPeer(chain(t, ca.Issue(t, "spiffe://cloud.example/api/thief")))
	for _, c := range []struct {
		name string
		cnf  any
		peer *Peer
		ok   bool
	}{
		{"unbound", nil, thief, true},
		{"its owner", map[string]any{"x5t#S256": x5t}, owner, true},
		{"a thief", map[string]any{"x5t#S256": x5t}, thief, false},
		{"nobody", map[string]any{"x5t#S256": x5t}, nil, false},
		{"nobody, by zeros", map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(make([]byte, sha256.Size))}, nil, false},
		{"DPoP, which is checked elsewhere", map[string]any{"jkt": "abc"}, thief, true},
		{"DPoP beside", map[string]any{"x5t#S256": x5t, "jkt": "abc"}, owner, true},
		{"DPoP beside, a thief", map[string]any{"x5t#S256": x5t, "jkt": "abc"}, thief, false},
		{"another kind", map[string]any{"x5t#S256": x5t, "kid": "abc"}, owner, false},
		{"an empty one", map[string]any{"x5t#S256": ""}, owner, false},
		{"empty", map[string]any{}, owner, false},
		{"no text", map[string]any{"x5t#S256": 1.0}, owner, false},
		{"no object", "abc", owner, false},
	} {
		token := &bearer.Token{Claims: map[string]any{}}
		if c.cnf != nil {
			token.Claims["cnf"] = c.cnf
		}
		binding, err := BindingOf(token)
		if err == nil {
			err = binding.CheckCertificate(c.peer)
		}
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, &protocol.Error{Code: protocol.TokenInvalid}) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}
