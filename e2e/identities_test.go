//go:build linux

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/process"
)

// Who is who in these tests.
const (
	relayID   = "spiffe://cloud.example/relay/a"
	agentID   = "spiffe://dc1.example/agent/a"
	billingID = "spiffe://cloud.example/api/billing"
	guestID   = "spiffe://cloud.example/guest/visitor" // a good SVID that no tunnel here admits
	issuerURL = "https://idp.example"
)

// identities are the certificates, keys and tokens of one test, in a folder where the binaries find them. What is
// secret among them must not turn up in any log.
type identities struct {
	dir       string
	cloud, dc *certstest.CA
	issuer    *certstest.Issuer
	logs      map[string]*process.Process

	mu      sync.Mutex
	secrets []string // guarded by mu
}

// secret adds what may not turn up in any log. It may be called from any goroutine.
func (ids *identities) secret(words ...string) {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	ids.secrets = append(ids.secrets, words...)
}

// newIdentities writes what a relay, an agent and a caller need, and checks the logs of all that was watched when the
// test ends.
func newIdentities(t *testing.T) *identities {
	t.Helper()
	ids := &identities{
		dir:    process.Folder(t, "root"),
		cloud:  certstest.NewCA(t, "cloud.example"),
		dc:     certstest.NewCA(t, "dc1.example"),
		issuer: certstest.NewIssuer(t, issuerURL),
		logs:   map[string]*process.Process{},
	}
	certstest.WriteBundle(t, ids.dir, "cloud", ids.cloud)
	certstest.WriteBundle(t, ids.dir, "dc1", ids.dc)
	ids.issuer.WriteJWKS(t, ids.dir)
	ids.write(t, "relay", ids.cloud.Issue(t, relayID, certstest.DNS("*.dc1.example")))
	ids.write(t, "agent", ids.dc.Issue(t, agentID))
	ids.write(t, "billing", ids.cloud.Issue(t, billingID))
	// Clean-ups run last first: everything that writes a log has ended by then.
	t.Cleanup(func() { ids.checkLogs(t) })
	return ids
}

// write writes an SVID as name.crt and name.key.
func (ids *identities) write(t *testing.T, name string, cert tls.Certificate) {
	t.Helper()
	_, keyFile := certstest.WriteCertificate(t, ids.dir, name, cert)
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	ids.secret(lines[1 : len(lines)-1]...)
}

// file returns the path of a file in the folder.
func (ids *identities) file(name string) string { return filepath.Join(ids.dir, name) }

// token returns a good token with the scopes.
func (ids *identities) token(t *testing.T, scopes ...string) string {
	t.Helper()
	return ids.mint(t, map[string]any{"scope": strings.Join(scopes, " ")})
}

// mint returns a token with claims of the test's own.
func (ids *identities) mint(t *testing.T, claims map[string]any) string {
	t.Helper()
	token := ids.issuer.Mint(t, claims)
	ids.secret(token[strings.LastIndexByte(token, '.')+1:])
	return token
}

// tokenFile writes a good token with the scopes to a file and returns its path.
func (ids *identities) tokenFile(t *testing.T, scopes ...string) string {
	t.Helper()
	return ids.secretFile(t, "token", ids.token(t, scopes...))
}

// secretFile writes a secret to a file that is its owner's alone, and returns its path.
func (ids *identities) secretFile(t *testing.T, name, secret string) string {
	t.Helper()
	ids.secret(secret)
	if err := os.WriteFile(ids.file(name), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return ids.file(name)
}

// watch adds a program to those whose log may hold no secret.
func (ids *identities) watch(name string, p *process.Process) { ids.logs[name] = p }

func (ids *identities) checkLogs(t *testing.T) {
	t.Helper()
	ids.mu.Lock()
	defer ids.mu.Unlock()
	for name, p := range ids.logs {
		log := p.Log().String()
		if log == "" {
			t.Errorf("%s wrote no log at all", name)
		}
		for _, secret := range ids.secrets {
			if strings.Contains(log, secret) {
				t.Errorf("the log of %s holds a secret: …%s…", name, secret[:min(8, len(secret))])
			}
		}
		for _, word := range []string{"panic:", "DATA RACE", "goroutine 1 ["} {
			if strings.Contains(log, word) {
				t.Errorf("the log of %s says %q:\n%s", name, word, p.Log().Tail(16<<10))
			}
		}
	}
}

// tlsConfig returns what a caller with an SVID of the cloud uses; an empty id is a caller without one.
func (ids *identities) tlsConfig(t *testing.T, id string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ids.cloud.Root())
	c := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	if id != "" {
		c.Certificates = []tls.Certificate{ids.cloud.Issue(t, id)}
	}
	return c
}
