package certstest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// An IdP is an Issuer that publishes its keys on a loopback port: as a JWK set and by OpenID discovery. Its URL is the
// server's.
type IdP struct {
	*Issuer
	hits   atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

// NewIdP starts one; it ends with the test.
func NewIdP(tb testing.TB) *IdP {
	tb.Helper()
	p := &IdP{Issuer: NewIssuer(tb, "")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jwks.json", p.serveKeys)
	mux.HandleFunc("GET /.well-known/openid-configuration", p.serveConfiguration)
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// JWKSURL is where the key set is.
func (p *IdP) JWKSURL() string { return p.URL + "/jwks.json" }

// Hits counts the requests for the key set.
func (p *IdP) Hits() int { return int(p.hits.Load()) }

// Answer replaces the answer to requests for the key set; nil brings the true one back.
func (p *IdP) Answer(h http.HandlerFunc) {
	if h == nil {
		p.answer.Store(nil)
		return
	}
	p.answer.Store(&h)
}

func (p *IdP) serveKeys(w http.ResponseWriter, r *http.Request) {
	p.hits.Add(1)
	if h := p.answer.Load(); h != nil {
		(*h)(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_, _ = w.Write(p.JWKS()) // a client that hung up has its own error
}

func (p *IdP) serveConfiguration(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.JWKSURL()}) // likewise
}
