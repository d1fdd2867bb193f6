package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
)

// A folder is where everything goes; nothing is written outside it.
type folder struct {
	root    *os.Root
	written []string
}

// put writes a file whole: under another name first, so that a process that follows it never reads half of it.
func (d *folder) put(name string, b []byte, mode fs.FileMode) error {
	const fresh = ".new"
	if err := d.root.Remove(name + fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.root.WriteFile(name+fresh, b, mode); err != nil {
		return err
	}
	if err := d.root.Rename(name+fresh, name); err != nil {
		return err
	}
	d.written = append(d.written, name)
	return nil
}

// An authority is a CA of the trial.
type authority struct {
	ca    *certstest.CA
	fresh bool // made just now: what an older one issued is worthless
}

// authority loads name.pem and name-ca.key, or makes them.
func (d *folder) authority(name, domain string) (*authority, error) {
	bundle, err1 := d.root.ReadFile(name + ".pem")
	key, err2 := d.root.ReadFile(name + "-ca.key")
	if err := errors.Join(err1, err2); err == nil {
		ca, err := certstest.LoadCA(domain, bundle, key)
		if err == nil && time.Until(ca.Root().NotAfter) > leafLife {
			return &authority{ca: ca}, nil
		}
	}
	ca, err := certstest.MakeCA(domain)
	if err != nil {
		return nil, err
	}
	if key, err = ca.KeyPEM(); err != nil {
		return nil, err
	}
	return &authority{ca: ca, fresh: true},
		errors.Join(d.put(name+".pem", ca.BundlePEM(), 0o644), d.put(name+"-ca.key", key, 0o600))
}

// leafIsGood reports whether name.crt and name.key belong together, chain to ca and live for another tenth of their life.
func (d *folder) leafIsGood(name string, ca *certstest.CA) bool {
	chain, err1 := d.root.ReadFile(name + ".crt")
	key, err2 := d.root.ReadFile(name + ".key")
	if errors.Join(err1, err2) != nil {
		return false
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now().Add(leafLife / 10)})
	return err == nil
}

// issuer loads idp.key or makes it, and writes idp.jwks.json where it is not what the key says.
func (d *folder) issuer() (idp *certstest.Issuer, fresh bool, err error) {
	key, err := d.issuerKey()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	fresh = key == nil
	if idp, err = certstest.MakeIssuer(idpURL, key); err != nil {
		return nil, false, err
	}
	if fresh {
		b, err := idp.KeyPEM()
		if err != nil {
			return nil, false, err
		}
		if err := d.put("idp.key", b, 0o600); err != nil {
			return nil, false, err
		}
	}
	if old, err := d.root.ReadFile("idp.jwks.json"); err != nil || string(old) != string(idp.JWKS()) {
		return idp, fresh, d.put("idp.jwks.json", idp.JWKS(), 0o644)
	}
	return idp, fresh, nil
}

func (d *folder) issuerKey() (*ecdsa.PrivateKey, error) {
	b, err := d.root.ReadFile("idp.key")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("idp.key: a PEM block is expected; remove the file to make a new one")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("idp.key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("idp.key: an EC key is expected, found %T", key)
	}
	return ec, nil
}

// tokenIsGood reports whether the token lives for another half of its life. Whether its signature is good is not asked:
// idp.key and the tokens are only ever written together.
func (d *folder) tokenIsGood(name string) bool {
	b, err := d.root.ReadFile(name)
	if err != nil {
		return false
	}
	parts := strings.Split(strings.TrimSpace(string(b)), ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	return json.Unmarshal(payload, &claims) == nil && time.Until(time.Unix(claims.Exp, 0)) > tokenLife/2
}
