package certs

import (
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
	message, err := proofMessage(state, usage, cert.Certificate[0])
	if err != nil {
		return nil, err
	}
	signature, err := Sign(cert, message)
	if err != nil {
		return nil, fmt.Errorf("proving a newer identity: %w", err)
	}
	return &Proof{Chain: cert.Certificate, Signature: signature}, nil
}

// Check says whose chain the sender holds the key of; usage is the sender's part. The chain is not verified: Verify does
// that. An error that is no fault of the connection's wraps ErrBadProof.
func (p *Proof) Check(state *tls.ConnectionState, usage x509.ExtKeyUsage) ([]*x509.Certificate, error) {
	chain, err := ParseChain(p.Chain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadProof, err)
	}
	message, err := proofMessage(state, usage, chain[0].Raw)
	if err != nil {
		return nil, err
	}
	if err := CheckSignature(chain[0], message, p.Signature); err != nil {
		return nil, fmt.Errorf("%w: it is not this connection's, or: %w", ErrBadProof, err)
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
