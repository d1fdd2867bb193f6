package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrBadSignature is what CheckSignature wraps: the message was not signed by the leaf's key.
var ErrBadSignature = errors.New("signature does not hold")

// Sign signs a message by an SVID's key. The message begins with a label of its purpose, so that it can be taken for no
// other. The algorithm follows from the key, so that there is nothing to negotiate: ECDSA with SHA-256, SHA-384, SHA-512 on
// P-256, P-384, P-521; RSASSA-PSS with SHA-256 and a salt of 32 bytes; Ed25519.
func Sign(cert *tls.Certificate, message []byte) ([]byte, error) {
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of kind %T cannot sign", cert.PrivateKey)
	}
	_, opts, err := signatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	return crypto.SignMessage(signer, rand.Reader, message, opts)
}

// CheckSignature says whether Sign made the signature, by the leaf's key. Whose leaf it is, Verify says.
func CheckSignature(leaf *x509.Certificate, message, signature []byte) error {
	if err := checkKey(leaf.PublicKey); err != nil {
		return err
	}
	algorithm, _, err := signatureAlgorithm(leaf.PublicKey)
	if err != nil {
		return err
	}
	if leaf.CheckSignature(algorithm, message, signature) != nil {
		return fmt.Errorf("%w: it is not by the key of %s", ErrBadSignature, claim(leaf))
	}
	return nil
}

// ParseChain reads the certificates of a chain that a stranger sent, DER, the leaf first. It verifies nothing.
func ParseChain(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) == 0 || len(der) > maxChain {
		return nil, fmt.Errorf("expected 1 to %d certificates, got %d", maxChain, len(der))
	}
	chain := make([]*x509.Certificate, len(der))
	for i, b := range der {
		if len(b) > maxChainBytes {
			return nil, fmt.Errorf("certificate of %d bytes, at most %d are expected", len(b), maxChainBytes)
		}
		var err error
		if chain[i], err = x509.ParseCertificate(b); err != nil {
			return nil, fmt.Errorf("certificate %d does not parse", i+1)
		}
	}
	return chain, nil
}

func signatureAlgorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, crypto.SignerOpts, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return x509.SHA256WithRSAPSS, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		case elliptic.P521():
			return x509.ECDSAWithSHA512, crypto.SHA512, nil
		}
	case ed25519.PublicKey:
		return x509.PureEd25519, crypto.Hash(0), nil
	}
	return 0, nil, fmt.Errorf("key of kind %T: RSA, ECDSA or Ed25519 is expected", pub)
}
