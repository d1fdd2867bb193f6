package certs

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ID is a SPIFFE ID such as spiffe://dc1.example/agent/a. The zero ID names nobody.
type ID = spiffeid.ID

// TrustDomain is the authority part of an ID, such as dc1.example.
type TrustDomain = spiffeid.TrustDomain

// Limits of the SPIFFE ID standard, in bytes.
const (
	maxID          = 2048
	maxTrustDomain = 255
)

// ParseID reads the SPIFFE ID of a workload. It takes the canonical spelling only (no percent-encoding, query,
// fragment, port, empty or dot segment, no upper case in scheme or trust domain), at most 2,048 bytes, and wants a
// path: a bare trust domain names no workload. Its errors are safe to log.
func ParseID(s string) (ID, error) {
	if len(s) > maxID {
		return ID{}, fmt.Errorf("SPIFFE ID of %d bytes: at most %d are allowed", len(s), maxID)
	}
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %s: %w", quote(s), err)
	}
	if len(id.TrustDomain().Name()) > maxTrustDomain {
		return ID{}, fmt.Errorf("SPIFFE ID %s: trust domain exceeds %d bytes", quote(s), maxTrustDomain)
	}
	if id.Path() == "" {
		return ID{}, fmt.Errorf("SPIFFE ID %s: %w", quote(s), errNoPath)
	}
	return id, nil
}

// ParseTrustDomain reads the bare name of a trust domain, at most 255 bytes. Its errors are safe to log.
func ParseTrustDomain(s string) (TrustDomain, error) {
	if len(s) > maxTrustDomain {
		return TrustDomain{}, fmt.Errorf("trust domain of %d bytes: at most %d are allowed", len(s), maxTrustDomain)
	}
	td, err := spiffeid.TrustDomainFromString(s)
	if err != nil {
		return TrustDomain{}, fmt.Errorf("trust domain %s: %w", quote(s), err)
	}
	if td.Name() != s {
		return TrustDomain{}, fmt.Errorf("trust domain %s: write the bare name %q", quote(s), td.Name())
	}
	return td, nil
}

var errNoPath = errors.New("a path after the trust domain is expected")
