//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/servers"
)

func TestTokensOfARealProviderAreTakenByDiscoveryAndByIntrospection(t *testing.T) {
	t.Parallel()
	api := servers.StartOrders(t, new(servers.Loopback))
	jwts, opaques := servers.StartOIDC(t), servers.StartOIDC(t)
	discovered, asked := ordersTunnel(api), ordersTunnel(api)
	discovered.relay, asked.relay, asked.name = "", "", "opaque"
	discovered.token = fmt.Sprintf("{issuer: '%s', scopes: [orders.use]}", jwts.URL)
	asked.token = fmt.Sprintf("{issuer: '%s', scopes: [orders.use]}", opaques.URL)
	s := newSite(t, options{issuers: fmt.Sprintf(`  - {issuer: '%s', audiences: [fairlead]}
  - {issuer: '%s', audiences: [fairlead], introspection: {url: '%s/oauth/introspect', client_id: fairlead, secret_file: idp.secret, cache: 1s}}`,
		jwts.URL, opaques.URL, opaques.URL)}, discovered, asked)
	s.secretFile(t, "idp.secret", opaques.IntrospectionSecret)
	s.start(t)
	c := s.caller(t, nil, billingID, h2)
	with := func(tunnel, token string) call {
		s.secret(token)
		return call{tunnel: tunnel, path: "/v1/orders", token: token}
	}

	first := jwts.Token(t, servers.ClientJWT, "orders.use")
	c.must(t, 200, with("orders", first))
	if a := c.must(t, 403, with("orders", jwts.Token(t, servers.ClientJWT, "orders.read"))); a.code() != "scope_missing" {
		t.Errorf("without the scope: %s", a.body)
	}
	c.must(t, 401, with("orders", opaques.Token(t, servers.ClientJWT, "orders.use"))) // of an issuer that this tunnel does not want
	c.must(t, 401, with("orders", jwts.Token(t, servers.ClientOpaque, "orders.use")))

	// J13: the provider signs by another key; the first one is published yet.
	time.Sleep(10 * time.Second) // between two fetches
	jwts.Rotate(t, true)
	second := jwts.Token(t, servers.ClientJWT, "orders.use")
	c.must(t, 200, with("orders", second))
	c.must(t, 200, with("orders", first))

	opaque := opaques.Token(t, servers.ClientOpaque, "orders.use")
	if strings.Count(opaque, ".") == 2 {
		t.Fatal("the token is a JWT")
	}
	c.must(t, 200, with("opaque", opaque))
	if a := c.must(t, 403, with("opaque", opaques.Token(t, servers.ClientOpaque, "orders.read"))); a.code() != "scope_missing" {
		t.Errorf("without the scope: %s", a.body)
	}
	if a := c.must(t, 401, with("opaque", "nonsense")); a.code() != "token_invalid" {
		t.Errorf("nonsense: %s", a.body)
	}
	opaques.Revoke()
	time.Sleep(1100 * time.Millisecond) // the answer's second
	if a := c.must(t, 401, with("opaque", opaque)); a.code() != "token_invalid" {
		t.Errorf("revoked: %s", a.body)
	}
	fresh := opaques.Token(t, servers.ClientOpaque, "orders.use")
	opaques.Away(true)
	if a := c.must(t, 503, with("opaque", fresh)); a.code() != "identity_unavailable" {
		t.Errorf("an issuer that does not answer: %s", a.body)
	}
	opaques.Away(false)
	c.must(t, 200, with("opaque", fresh))
}
