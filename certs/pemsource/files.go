package pemsource

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/secretfile"
)

// maxFile bounds each file, in bytes: the largest public bundles are a fifth of it.
const maxFile = 1 << 20

// files are the contents of one reading.
type files struct {
	cert, key []byte
	bundles   map[certs.TrustDomain][]byte
	sum       [sha256.Size]byte
}

// readStable reads the files until two readings agree, so that files which are being swapped one by one are not taken
// half new and half old. A reading that equals before needs no second.
func readStable(config Config, before *state) (*files, error) {
	const attempts = 4
	f, err := readAll(config)
	for range attempts {
		if err != nil || before != nil && f.sum == before.sum {
			return f, err
		}
		last := f.sum
		if f, err = readAll(config); err == nil && f.sum == last {
			return f, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, errors.New("identity files change while they are read")
}

func readAll(config Config) (f *files, err error) {
	f = &files{bundles: make(map[certs.TrustDomain][]byte, len(config.Bundles))}
	if config.CertFile != "" {
		if f.cert, err = readFile(config.CertFile); err != nil {
			return nil, err
		}
		if f.key, err = secretfile.Read(config.KeyFile, maxFile); err != nil {
			return nil, err
		}
	}
	hash := sha256.New()
	add := func(b []byte) {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		hash.Write(b)
	}
	add(f.cert)
	add(f.key)
	for _, td := range sortedDomains(config.Bundles) {
		b, err := readFile(config.Bundles[td])
		if err != nil {
			return nil, fmt.Errorf("bundle of %s: %w", td, err)
		}
		f.bundles[td] = b
		add(b)
	}
	hash.Sum(f.sum[:0])
	return f, nil
}

func sortedDomains(bundles map[certs.TrustDomain]string) []certs.TrustDomain {
	all := make([]certs.TrustDomain, 0, len(bundles))
	for td := range bundles {
		all = append(all, td)
	}
	slices.SortFunc(all, certs.TrustDomain.Compare)
	return all
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return b, nil
}

// parseBundle reads CA certificates in PEM. Anything else between BEGIN and END is a mistake, and a leaf among the roots
// would be believed as it stands.
func parseBundle(b []byte) (roots []*x509.Certificate, err error) {
	found := 0
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		found++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("block %d is not a certificate", found)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", found, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %d is not of a CA", found)
		}
		roots = append(roots, c)
	}
	if found == 0 || bytes.Contains(b, []byte("-----BEGIN")) {
		return nil, errors.New("CA certificates in PEM are expected, and nothing cut short")
	}
	return roots, nil
}
