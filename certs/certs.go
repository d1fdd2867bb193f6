// Package certs says who is at the other end of a TLS connection: it verifies X.509-SVIDs against the bundle of the
// trust domain that they name, matches SPIFFE IDs with patterns, and builds the tls.Configs of agents, relays and
// callers.
//
// It does not load certificates (package pemsource does), does not read tokens (package bearer does), and does not
// decide what an identity may do: that is the caller's authorize function, and the relay's policy.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// ErrUnknownTrustDomain is what Source.Roots returns (wrapped or not) for a trust domain that has no bundle.
var ErrUnknownTrustDomain = errors.New("no bundle for this trust domain")

// A Source is where a process gets its own SVID and the bundles it believes. Its methods are safe for concurrent use
// and do not block; each call sees the newest state, so that what is asked for at every handshake needs no restart.
type Source interface {
	// Certificate returns the process's own SVID with its chain, key and Leaf. The caller does not change it.
	Certificate() (*tls.Certificate, error)

	// ID returns the SPIFFE ID of Certificate.
	ID() ID

	// Roots returns the bundle of a trust domain, and ErrUnknownTrustDomain where there is none. The caller does
	// not change it.
	Roots(TrustDomain) (*x509.CertPool, error)

	// Generation grows whenever the SVID or any bundle has changed: a verdict of an older generation is stale.
	Generation() uint64
}
