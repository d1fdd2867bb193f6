package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
)

const (
	cloudDomain = "cloud.example"
	dcDomain    = "dc1.example"
	idpURL      = "https://idp.example"
)

const (
	leafLife  = 90 * 24 * time.Hour
	tokenLife = 24 * time.Hour
)

// leaves are the certificates of a trial; each gets name.crt and name.key.
var leaves = []struct {
	name, domain, id string
	options          []certstest.Option
}{
	{"relay", cloudDomain, "spiffe://cloud.example/relay/a", []certstest.Option{
		certstest.DNS("localhost", "relay.localhost", "*.dc1.example"), certstest.IP("127.0.0.1", "::1"),
	}},
	{"agent", dcDomain, "spiffe://dc1.example/agent/a", nil},
	{"api", cloudDomain, "spiffe://cloud.example/api/shop", nil},
	{"other", cloudDomain, "spiffe://cloud.example/batch/report", nil},
}

// tokens are the tokens of a trial, by file and scope.
var tokens = []struct{ file, scope string }{
	{"orders.token", "orders.read"},
	{"orders-write.token", "orders.read orders.write"},
}

// write makes what is missing or about to run out, and returns the names of the files that it wrote.
func write(path string, tokensOnly bool) ([]string, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &folder{root: root}
	if !tokensOnly {
		err = d.certificates()
	}
	if err == nil {
		err = d.identityProvider(tokensOnly)
	}
	return d.written, errors.Join(err, root.Close())
}

func (d *folder) certificates() error {
	domains := make(map[string]*authority)
	for name, domain := range map[string]string{"cloud": cloudDomain, "dc1": dcDomain} {
		a, err := d.authority(name, domain)
		if err != nil {
			return fmt.Errorf("authority of %s: %w", domain, err)
		}
		domains[domain] = a
	}
	for _, l := range leaves {
		a := domains[l.domain]
		if !a.fresh && d.leafIsGood(l.name, a.ca) {
			continue
		}
		options := append([]certstest.Option{certstest.NotAfter(time.Now().Add(leafLife))}, l.options...)
		cert, err := a.ca.Make(l.id, options...)
		if err != nil {
			return err
		}
		chain, key, err := certstest.PEM(cert)
		if err != nil {
			return err
		}
		if err := errors.Join(d.put(l.name+".crt", chain, 0o644), d.put(l.name+".key", key, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

func (d *folder) identityProvider(renew bool) error {
	idp, fresh, err := d.issuer()
	if err != nil {
		return fmt.Errorf("identity provider: %w", err)
	}
	for _, t := range tokens {
		if !renew && !fresh && d.tokenIsGood(t.file) {
			continue
		}
		token, err := idp.Sign(nil, map[string]any{"scope": t.scope, "exp": time.Now().Add(tokenLife).Unix()})
		if err != nil {
			return err
		}
		if err := d.put(t.file, []byte(token+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// summary says in one line what was done.
func summary(dir string, written []string) string {
	if len(written) == 0 {
		return fmt.Sprintf("devcerts: %s: all there and good, nothing written", dir)
	}
	return fmt.Sprintf("devcerts: %s: wrote %s", dir, strings.Join(written, " "))
}
