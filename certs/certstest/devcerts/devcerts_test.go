package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/pemsource"
)

func devcerts(t *testing.T, args ...string) string {
	t.Helper()
	var out, fault bytes.Buffer
	if code := run(args, &out, &fault); code != 0 {
		t.Fatalf("devcerts %v: exit %d: %s", args, code, fault.String())
	}
	if line := out.String(); strings.Count(line, "\n") != 1 {
		t.Errorf("one line is expected, got %q", line)
	}
	return out.String()
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if secret := strings.HasSuffix(e.Name(), ".key") || strings.HasSuffix(e.Name(), ".token"); secret && info.Mode() != 0o600 {
			t.Errorf("%s has mode %s", e.Name(), info.Mode())
		}
	}
	return all
}

func TestWhatIsWrittenIsWhatTheProductReads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	devcerts(t, "-out", dir)
	bundles := make(map[certs.TrustDomain]string)
	for file, name := range map[string]string{"cloud.pem": cloudDomain, "dc1.pem": dcDomain} {
		td, err := certs.ParseTrustDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		bundles[td] = filepath.Join(dir, file)
	}
	for _, l := range leaves {
		s, err := pemsource.New(pemsource.Config{
			CertFile: filepath.Join(dir, l.name+".crt"), KeyFile: filepath.Join(dir, l.name+".key"), Bundles: bundles,
		})
		if err != nil || s.ID().String() != l.id {
			t.Errorf("%s: %v", l.name, err)
		}
	}
	v, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{{
		URL: idpURL, Audiences: []string{"fairlead"}, JWKS: filepath.Join(dir, "idp.jwks.json"), Algorithms: []string{"ES256"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range tokens {
		token, err := v.Verify(t.Context(), strings.TrimSpace(read(t, dir)[want.file]))
		if err != nil || strings.Join(token.Scopes, " ") != want.scope {
			t.Errorf("%s: %v, %v", want.file, token, err)
		}
	}
}

func TestSecondRunChangesNothing(t *testing.T) {
	dir := t.TempDir()
	devcerts(t, "-out", dir)
	before := read(t, dir)
	if said := devcerts(t, "-out", dir); !strings.Contains(said, "nothing written") {
		t.Errorf("said %q", said)
	}
	if !maps.Equal(before, read(t, dir)) {
		t.Error("files changed")
	}
}

func TestTokenFlagRenewsTokensOnly(t *testing.T) {
	dir := t.TempDir()
	devcerts(t, "-out", dir)
	before := read(t, dir)
	devcerts(t, "-out", dir, "-token")
	var changed []string
	for name, text := range read(t, dir) {
		if text != before[name] {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	if !slices.Equal(changed, []string{"orders-write.token", "orders.token"}) {
		t.Errorf("changed: %v", changed)
	}
}

func TestLostAuthorityTakesItsCertificatesAlong(t *testing.T) {
	dir := t.TempDir()
	devcerts(t, "-out", dir)
	if err := os.Remove(filepath.Join(dir, "dc1-ca.key")); err != nil {
		t.Fatal(err)
	}
	if said := devcerts(t, "-out", dir); !strings.Contains(said, "agent.crt") || strings.Contains(said, "relay.crt") {
		t.Errorf("said %q", said)
	}
}

func TestMissingFolderIsAUsageError(t *testing.T) {
	var out, fault bytes.Buffer
	if code := run(nil, &out, &fault); code != 2 || !strings.Contains(fault.String(), "-out") {
		t.Errorf("exit %d: %s", code, fault.String())
	}
}
