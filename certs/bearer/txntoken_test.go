package bearer_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

func TestATransactionTokenIsCheckedByTheTrustDomainsBundleAlone(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	const agent = "spiffe://dc1.example/agent/a"
	source := certstest.NewSource(ca.Issue(t, agent), ca)
	s := bearer.NewTxnSigner(source)
	for _, renew := range []func(){func() {}, func() { source.SetCertificate(ca.Issue(t, agent)) }, func() { source.SetCertificate(ca.Issue(t, agent, certstest.RSA(2048))) }} {
		renew()
		raw, err := s.Sign(&bearer.TxnToken{Audience: "dc1.example", Transaction: "c1", Subject: "ada", Workload: "spiffe://cloud.example/api/shop",
			Scope: "orders.read", Context: map[string]any{"tunnel": "orders"}, Requester: map[string]any{"app": "shop"}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.MapClaims{}
		token, err := jwt.ParseWithClaims(raw, claims, func(token *jwt.Token) (any, error) { // as a backend does
			der, err := base64.StdEncoding.DecodeString(token.Header["x5c"].([]any)[0].(string))
			if err != nil {
				return nil, err
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, err
			}
			roots := x509.NewCertPool()
			roots.AddCert(ca.Root())
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				return nil, err
			}
			return leaf.PublicKey, nil
		}, jwt.WithAudience("dc1.example"), jwt.WithIssuer(agent), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
		if err != nil {
			t.Fatal(err)
		}
		if token.Header["typ"] != "txntoken+jwt" || claims["txn"] != "c1" || claims["sub"] != "ada" || claims["req_wl"] != "spiffe://cloud.example/api/shop" ||
			claims["scope"] != "orders.read" || claims["tctx"].(map[string]any)["tunnel"] != "orders" || claims["rctx"].(map[string]any)["app"] != "shop" {
			t.Errorf("%v, %v", token.Header, claims)
		}
		set, err := s.JWKS()
		if err != nil {
			t.Fatal(err)
		}
		var keys struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(set, &keys); err != nil || len(keys.Keys) != 1 || keys.Keys[0]["kid"] != token.Header["kid"] || keys.Keys[0]["d"] != nil {
			t.Errorf("%s, %v", set, err)
		}
	}
}

func BenchmarkTxnToken(b *testing.B) {
	ca := certstest.NewCA(b, "dc1.example")
	s := bearer.NewTxnSigner(certstest.NewSource(ca.Issue(b, "spiffe://dc1.example/agent/a"), ca))
	t := &bearer.TxnToken{Audience: "dc1.example", Transaction: "c1", Subject: "ada", Workload: "spiffe://cloud.example/api/shop"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(t, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
