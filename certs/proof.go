package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// A Proof shows on a TLS connection that stands that its sender holds the key of a newer SVID (TLS 1.3 as crypto/tls
// has it lets nobody authenticate after the handshake). It is worth nothing on any other connection, nor coming back
// from the side that it was made for.
type Proof struct {
	Chain     [][]byte // DER, the leaf first
	Signature []byte
}

// proofLabel is the exporter's (RFC 8446 §7.5), and names what is signed.
const proofLabel = "EXPERIMENTAL-fairlead-proof"

// ErrBadProof is what Proof.Check wraps: its signature is not of this connection, this side or this key.
var ErrBadProof = errors.New("proof of a newer identity does not hold")

// Prove makes the proof for the connection that state describes; usage is the sender's own part on it,
// x509.ExtKeyUsageClientAuth or ExtKeyUsageServerAuth.
func Prove(cert *tls.Certificate, state *tls.ConnectionState, usage x509.ExtKeyUsage) (*Proof, error) {
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("proving a newer identity: a key of kind %T cannot sign", cert.PrivateKey)
	}
	message, err := proofMessage(state, usage, cert.Certificate[0])
	if err != nil {
		return nil, err
	}
	_, opts, err := proofAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(signer, rand.Reader, message, opts)
	if err != nil {
		return nil, fmt.Errorf("proving a newer identity: %w", err)
	}
	return &Proof{Chain: cert.Certificate, Signature: signature}, nil
}

// Check says whose chain the sender holds the key of; usage is the sender's part. The chain is not verified: Verify does
// that. An error that is no fault of the connection's wraps ErrBadProof.
func (p *Proof) Check(state *tls.ConnectionState, usage x509.ExtKeyUsage) ([]*x509.Certificate, error) {
	if len(p.Chain) == 0 || len(p.Chain) > maxChain {
		return nil, fmt.Errorf("%w: expected 1 to %d certificates, got %d", ErrBadProof, maxChain, len(p.Chain))
	}
	chain := make([]*x509.Certificate, len(p.Chain))
	for i, der := range p.Chain {
		if len(der) > maxChainBytes {
			return nil, fmt.Errorf("%w: certificate of %d bytes, at most %d are expected", ErrBadProof, len(der), maxChainBytes)
		}
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: certificate %d does not parse", ErrBadProof, i+1)
		}
	}
	leaf := chain[0]
	if err := checkKey(leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadProof, err)
	}
	algorithm, _, err := proofAlgorithm(leaf.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadProof, err)
	}
	message, err := proofMessage(state, usage, leaf.Raw)
	if err != nil {
		return nil, err
	}
	if leaf.CheckSignature(algorithm, message, p.Signature) != nil {
		return nil, fmt.Errorf("%w: the signature is not this connection's, or not by the key of %s", ErrBadProof, claim(leaf))
	}
	return chain, nil
}

// proofMessage is what is signed: 32 bytes that only the two ends of the connection know, made for this side and leaf.
func proofMessage(state *tls.ConnectionState, usage x509.ExtKeyUsage, leaf []byte) ([]byte, error) {
	side := "client"
	if usage == x509.ExtKeyUsageServerAuth {
		side = "server"
	}
	sum := sha256.Sum256(leaf)
	exported, err := state.ExportKeyingMaterial(proofLabel, append([]byte(side+"\x00"), sum[:]...), 32)
	if err != nil {
		return nil, fmt.Errorf("exporting keying material: %w", err)
	}
	return append([]byte(proofLabel+"\x00"), exported...), nil
}

// proofAlgorithm follows from the key, so that there is nothing to negotiate.
func proofAlgorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, crypto.SignerOpts, error) {
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
