package sources_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/federation"
	"github.com/fairlead/fairlead/certs/sources"
)

const relayID = "spiffe://cloud.example/relay/a"

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after a minute", what)
		}
	}
}

func follow(t *testing.T, s sources.Source) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestFilesAddToTheWorkloadAPIsBundles(t *testing.T) {
	api, dir := certstest.NewWorkloadAPI(t), t.TempDir()
	cloud, dc, partner := certstest.NewCA(t, "cloud.example"), certstest.NewCA(t, "dc1.example"), certstest.NewCA(t, "partner.example")
	api.Serve(cloud, relayID, []*certstest.CA{dc})
	s, err := sources.Open(t.Context(), sources.Config{WorkloadAPI: api.Address,
		Bundles: map[certs.TrustDomain]sources.Bundle{partner.TrustDomain(): {File: certstest.WriteBundle(t, dir, "partner", partner)}}})
	if err != nil {
		t.Fatal(err)
	}
	follow(t, s)
	for _, ca := range []*certstest.CA{cloud, dc, partner} {
		if _, err := s.Roots(ca.TrustDomain()); err != nil {
			t.Error(err)
		}
	}
	if s.ID().String() != relayID || len(s.Expiries()) != 4 {
		t.Errorf("%s with %v", s.ID(), s.Expiries())
	}
	generation := s.Generation()
	certstest.WriteBundle(t, dir, "partner", certstest.NewCA(t, "partner.example"))
	eventually(t, "the file's change is a new generation", func() bool { return s.Generation() > generation })
	generation = s.Generation()
	api.Serve(cloud, relayID, nil)
	eventually(t, "the API's change is a new generation", func() bool { return s.Generation() > generation })
}

func TestNoFileReplacesTheWorkloadAPIsOwnBundle(t *testing.T) { // H12
	api, dir := certstest.NewWorkloadAPI(t), t.TempDir()
	cloud := certstest.NewCA(t, "cloud.example")
	api.Serve(cloud, relayID, nil)
	_, err := sources.Open(t.Context(), sources.Config{WorkloadAPI: api.Address,
		Bundles: map[certs.TrustDomain]sources.Bundle{cloud.TrustDomain(): {File: certstest.WriteBundle(t, dir, "cloud", cloud)}}})
	if err == nil || !strings.Contains(err.Error(), "cloud.example") {
		t.Errorf("got %v, expected a refusal that names the trust domain", err)
	}
}

func TestABundleEndpointAddsItsTrustDomain(t *testing.T) {
	dir, cloud, partner := t.TempDir(), certstest.NewCA(t, "cloud.example"), certstest.NewCA(t, "partner.example")
	endpoint := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(partner.BundlePEM()) }))
	defer endpoint.Close()
	ca := filepath.Join(dir, "web.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: endpoint.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := certstest.WriteCertificate(t, dir, "relay", cloud.Issue(t, relayID))
	s, err := sources.Open(t.Context(), sources.Config{Cert: cert, Key: key, StateDir: dir, Bundles: map[certs.TrustDomain]sources.Bundle{
		cloud.TrustDomain():   {File: certstest.WriteBundle(t, dir, "cloud", cloud)},
		partner.TrustDomain(): {Endpoint: federation.Endpoint{URL: endpoint.URL, Profile: federation.Web, CA: ca}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	follow(t, s)
	for _, ca := range []*certstest.CA{cloud, partner} {
		if _, err := s.Roots(ca.TrustDomain()); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "bundles", "partner.example.json")); err != nil {
		t.Error(err)
	}
	// A trust domain vouches for its own identities alone (H12).
	for id, ca := range map[string]*certstest.CA{"spiffe://cloud.example/api/a": partner, "spiffe://partner.example/api/a": cloud} {
		if _, err := certs.Verify(s, []*x509.Certificate{ca.Issue(t, id).Leaf}, x509.ExtKeyUsageClientAuth, time.Now()); err == nil {
			t.Errorf("%s was believed, though %s issued it", id, ca.TrustDomain())
		}
		own := "spiffe://" + ca.TrustDomain().Name() + "/api/a"
		if _, err := certs.Verify(s, []*x509.Certificate{ca.Issue(t, own).Leaf}, x509.ExtKeyUsageClientAuth, time.Now()); err != nil {
			t.Errorf("%s: %v", own, err)
		}
	}
}

func TestTheGenerationGrowsOverAnExchange(t *testing.T) {
	dir, cloud := t.TempDir(), certstest.NewCA(t, "cloud.example")
	open := func(name string) sources.Source {
		cert, key := certstest.WriteCertificate(t, dir, name, cloud.Issue(t, relayID))
		s, err := sources.Open(t.Context(), sources.Config{Cert: cert, Key: key,
			Bundles: map[certs.TrustDomain]sources.Bundle{cloud.TrustDomain(): {File: certstest.WriteBundle(t, dir, "cloud", cloud)}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	r := sources.NewRebased(open("a"))
	for range 3 {
		before := r.Generation()
		r.Swap(open("b"))
		if after := r.Generation(); after <= before {
			t.Errorf("generation %d after %d", after, before)
		}
	}
}
