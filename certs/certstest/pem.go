package certstest

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/certs"
)

// PEM encodes a certificate with its chain, and its key in PKCS #8.
func PEM(cert tls.Certificate) (chain, key []byte, err error) {
	var buf bytes.Buffer
	for _, der := range cert.Certificate {
		_ = pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a bytes.Buffer does not fail
	}
	key, err = keyPEM(cert.PrivateKey)
	return buf.Bytes(), key, err
}

func keyPEM(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a test key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// BundlePEM encodes the CA's root as a bundle file.
func (ca *CA) BundlePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root().Raw})
}

// WriteCertificate writes dir/name.crt and dir/name.key (mode 0600) and returns their paths.
func WriteCertificate(tb testing.TB, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	tb.Helper()
	chain, key, err := PEM(cert)
	if err != nil {
		tb.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	writeFile(tb, certFile, chain, 0o644)
	writeFile(tb, keyFile, key, 0o600)
	return certFile, keyFile
}

// WriteBundle writes dir/name.pem with the roots of the CAs and returns its path.
func WriteBundle(tb testing.TB, dir, name string, cas ...*CA) string {
	tb.Helper()
	var all []byte
	for _, ca := range cas {
		all = append(all, ca.BundlePEM()...)
	}
	path := filepath.Join(dir, name+".pem")
	writeFile(tb, path, all, 0o644)
	return path
}

func writeFile(tb testing.TB, path string, b []byte, mode os.FileMode) {
	tb.Helper()
	if err := os.WriteFile(path, b, mode); err != nil {
		tb.Fatal(err)
	}
}

// KeyPEM encodes the CA's key, for a CA that LoadCA is to bring back.
func (ca *CA) KeyPEM() ([]byte, error) { return keyPEM(ca.key) }

// KeyPEM encodes the key that signs now.
func (i *Issuer) KeyPEM() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return keyPEM(i.key)
}

// LoadCA brings back a root from its BundlePEM and KeyPEM.
func LoadCA(trustDomain string, bundle, key []byte) (*CA, error) {
	td, err := certs.ParseTrustDomain(trustDomain)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(bundle, key)
	if err != nil {
		return nil, fmt.Errorf("reading a test CA: %w", err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA || len(pair.Leaf.URIs) != 1 || pair.Leaf.URIs[0].Host != td.Name() {
		return nil, fmt.Errorf("reading a test CA: a CA certificate of %s is expected", td)
	}
	ca := &CA{td: td, cert: pair.Leaf, key: signer}
	ca.root = ca
	return ca, nil
}
