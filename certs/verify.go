package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What a stranger may make us parse and check.
const (
	maxChain      = 4
	maxChainBytes = 16 << 10
)

// startLeeway is how long before its notBefore a leaf is taken already: an issuer's clock may run ahead. The end has no
// leeway, because everything that hangs on an identity ends at its notAfter.
const startLeeway = 30 * time.Second

// Verify proves the identity of the peer that showed chain, its leaf first, as TLS delivers it. The identity is the
// leaf's alone, whatever follows it; the leaf must chain to the bundle of the trust domain that it names, and to no
// other. usage is the peer's part: x509.ExtKeyUsageClientAuth or ExtKeyUsageServerAuth; ExtKeyUsageAny asks for neither.
//
// That the peer holds the leaf's key is not checked here: the TLS handshake did. The error is a *VerifyError.
func Verify(src Source, chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Identity, error) {
	generation := src.Generation() // before the bundle is read, so that it is never newer than the bundle
	if len(chain) == 0 {
		return Identity{}, &VerifyError{Reason: ReasonNoCertificate, Text: "a certificate is expected, none was shown"}
	}
	v := verification{leaf: chain[0], rest: chain[1:]}
	for _, check := range []func() error{
		v.checkSize, v.checkID, v.checkLeaf, v.checkKeys,
		func() error { return v.checkUsage(usage) },
		func() error { return v.checkTimes(now) },
	} {
		if err := check(); err != nil {
			return Identity{}, err
		}
	}
	end, err := v.checkChain(src, usage, now)
	if err != nil {
		return Identity{}, err
	}
	return Identity{ID: v.id, NotAfter: end, Serial: fmt.Sprintf("%x", v.leaf.SerialNumber), Generation: generation}, nil
}

// A verification is one run of Verify: cheap checks first, signatures last.
type verification struct {
	leaf *x509.Certificate
	rest []*x509.Certificate
	id   ID // set by checkID
}

func (v *verification) refuse(reason Reason, cause error, format string, args ...any) error {
	return &VerifyError{Reason: reason, Claim: claim(v.leaf), Text: fmt.Sprintf(format, args...), Err: cause}
}

func (v *verification) checkSize() error {
	if n := 1 + len(v.rest); n > maxChain {
		return v.refuse(ReasonChainTooLarge, nil, "chain of %d certificates: at most %d are allowed", n, maxChain)
	}
	size := len(v.leaf.Raw)
	for _, c := range v.rest {
		size += len(c.Raw)
	}
	if size > maxChainBytes {
		return v.refuse(ReasonChainTooLarge, nil, "chain of %d bytes: at most %d are allowed", size, maxChainBytes)
	}
	return nil
}

func (v *verification) checkID() error {
	id, err := leafID(v.leaf)
	if err != nil {
		return v.refuse(ReasonBadID, err, "%s", err)
	}
	v.id = id
	return nil
}

func (v *verification) checkLeaf() error {
	const signs = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case v.leaf.IsCA:
		return v.refuse(ReasonNotLeaf, nil, "a CA certificate names no workload")
	case v.leaf.KeyUsage&signs != 0:
		return v.refuse(ReasonNotLeaf, nil, "key usage allows signing certificates or CRLs, which a workload may not")
	case v.leaf.KeyUsage != 0 && v.leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return v.refuse(ReasonWrongUsage, nil, "key usage lacks digitalSignature")
	}
	return nil
}

func (v *verification) checkKeys() error {
	for i, c := range slices.Concat([]*x509.Certificate{v.leaf}, v.rest) {
		if err := checkKey(c.PublicKey); err != nil {
			return v.refuse(ReasonBadKey, err, "certificate %d of the chain: %s", i+1, err)
		}
	}
	return nil
}

func (v *verification) checkUsage(usage x509.ExtKeyUsage) error {
	if usage == x509.ExtKeyUsageAny || len(v.leaf.ExtKeyUsage)+len(v.leaf.UnknownExtKeyUsage) == 0 ||
		slices.Contains(v.leaf.ExtKeyUsage, usage) || slices.Contains(v.leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	word := "serverAuth"
	if usage == x509.ExtKeyUsageClientAuth {
		word = "clientAuth"
	}
	return v.refuse(ReasonWrongUsage, nil, "extended key usage lacks %s", word)
}

func (v *verification) checkTimes(now time.Time) error {
	if early := v.leaf.NotBefore.Sub(now); early > startLeeway {
		return v.refuse(ReasonNotYetValid, nil, "not valid before %s, which is %s away (leeway %s)",
			stamp(v.leaf.NotBefore), early.Round(time.Second), startLeeway)
	}
	if late := now.Sub(v.leaf.NotAfter); late > 0 {
		return v.refuse(ReasonExpired, nil, "not valid after %s, which was %s ago",
			stamp(v.leaf.NotAfter), late.Round(time.Second))
	}
	return nil
}

// checkChain builds the way from the leaf to its own trust domain's bundle and returns when that way ends.
func (v *verification) checkChain(src Source, usage x509.ExtKeyUsage, now time.Time) (time.Time, error) {
	roots, err := src.Roots(v.id.TrustDomain())
	if errors.Is(err, ErrUnknownTrustDomain) {
		return time.Time{}, v.refuse(ReasonUnknownTrustDomain, err, "no bundle for trust domain %s", quote(v.id.TrustDomain().Name()))
	}
	if err == nil && roots == nil { // x509 would take the system's roots instead
		err = errors.New("the source returned no pool")
	}
	if err != nil {
		return time.Time{}, v.refuse(ReasonUnknownTrustDomain, err, "reading the bundle: %s", err)
	}
	pool := x509.NewCertPool()
	for _, c := range v.rest {
		pool.AddCert(c)
	}
	if now.Before(v.leaf.NotBefore) {
		now = v.leaf.NotBefore // inside the leeway, as checkTimes has seen
	}
	chains, err := v.leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: pool,
		KeyUsages:     []x509.ExtKeyUsage{usage}, // a certificate without extended key usage passes
		CurrentTime:   now,
	})
	if err != nil {
		return time.Time{}, v.refuse(chainReason(err), err, "chaining to the bundle of %s: %s", v.id.TrustDomain(), quote(err.Error()))
	}
	var end time.Time
	for _, chain := range chains {
		first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if first.NotAfter.After(end) {
			end = first.NotAfter
		}
	}
	return end, nil
}

// chainReason names what x509 found wrong above the leaf.
func chainReason(err error) Reason {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return ReasonExpired
		case x509.IncompatibleUsage:
			return ReasonWrongUsage
		}
	}
	return ReasonUntrusted
}

// claim is what an unproved leaf says of itself.
func claim(leaf *x509.Certificate) string {
	names, err := uriSANs(leaf)
	id := "without a URI SAN"
	if err == nil && len(names) > 0 {
		id = quote(names[0])
	}
	return id + " issued by " + quote(leaf.Issuer.String())
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
