package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// The sizes of RSA keys that are allowed, in bits: below they are weak, above they are a way to burn our CPU.
const (
	minRSA = 2048
	maxRSA = 8192
)

var (
	oidSAN     = asn1.ObjectIdentifier{2, 5, 29, 17}
	errBadSANs = errors.New("subject alternative names do not parse")
)

// tagURI is the context tag of uniformResourceIdentifier in a GeneralName (RFC 5280 §4.2.1.6).
const tagURI = 6

// LeafID reads the SPIFFE ID that an SVID claims: its only URI SAN. It proves nothing: Verify does.
func LeafID(leaf *x509.Certificate) (ID, error) { return leafID(leaf) }

func leafID(leaf *x509.Certificate) (ID, error) {
	names, err := uriSANs(leaf)
	if err != nil {
		return ID{}, err
	}
	if len(names) != 1 {
		return ID{}, fmt.Errorf("exactly one URI SAN is expected, found %d", len(names))
	}
	return ParseID(names[0])
}

// uriSANs returns the URI SANs byte for byte. x509's own URIs went through net/url, which quietly drops an empty
// fragment and lowers the scheme: two spellings of one name are what a strict reader must not have.
func uriSANs(c *x509.Certificate) ([]string, error) {
	var names []string
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		var seq asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &seq); err != nil || len(rest) > 0 || !seq.IsCompound {
			return nil, errBadSANs
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, errBadSANs
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == tagURI {
				names = append(names, string(name.Bytes))
			}
		}
	}
	return names, nil
}

// checkKey admits RSA of 2,048 to 8,192 bits, P-256, P-384, P-521 and Ed25519.
func checkKey(pub any) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits: %d to %d are allowed", n, minRSA, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("EC key on curve %s: P-256, P-384 or P-521 is expected", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("key of kind %T: RSA, ECDSA or Ed25519 is expected", pub)
}
