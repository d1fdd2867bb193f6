package bearer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/certs"
)

// JWT-SVIDs (SPIFFE JWT-SVID) are tokens whose subject is a SPIFFE ID, and whose keys are in the bundle of its trust domain.
// They go through the same parser as all others; what differs is here.

const svidScheme = "spiffe://"

// IsTrustDomain reports whether the issuer is a trust domain, whose tokens are JWT-SVIDs.
func (i Issuer) IsTrustDomain() bool { return strings.HasPrefix(i.URL, svidScheme) }

// trustDomainOf returns whose JWT-SVIDs an issuer's are; zero where it is no trust domain. It takes the algorithms out that
// a JWT-SVID must not have.
func trustDomainOf(conf *Issuer) (certs.TrustDomain, error) {
	name, ok := strings.CutPrefix(conf.URL, svidScheme)
	if !ok {
		return certs.TrustDomain{}, nil
	}
	td, err := certs.ParseTrustDomain(name)
	if err != nil {
		return td, err
	}
	conf.Algorithms = slices.DeleteFunc(conf.Algorithms, func(alg string) bool { return alg == "EdDSA" })
	if len(conf.Algorithms) == 0 {
		return td, errors.New("a JWT-SVID is signed by ECDSA or RSA: ES256, ES384, RS256 or PS256 is expected")
	}
	return td, nil
}

// bundleOf says where the keys of a trust domain come from.
func bundleOf(conf Issuer, td certs.TrustDomain, bundle func(certs.TrustDomain) ([]byte, error)) (func(context.Context) (document, error), error) {
	switch {
	case strings.Contains(conf.JWKS, "://"):
		return nil, errors.New("the file of a SPIFFE bundle is expected as its jwks, or none where the Workload API has it")
	case conf.JWKS != "":
		return func(context.Context) (document, error) { return readFile(conf.JWKS) }, nil
	case bundle == nil:
		return nil, errors.New("the file of a SPIFFE bundle is expected as its jwks, since there is no Workload API")
	}
	return func(context.Context) (document, error) {
		b, err := bundle(td)
		return document{body: b}, err
	}, nil
}

// checkKind holds a token to what its kind must be, before its signature is looked at.
func (i *issuer) checkKind(u *unverified) error {
	if i.svid.IsZero() {
		if u.typ == "jose" {
			return invalid(ReasonType, "typ JOSE is a JWT-SVID's, JWT or at+jwt is expected")
		}
		return nil
	}
	if u.typ == "at+jwt" {
		return invalid(ReasonType, "typ of a JWT-SVID is JWT or JOSE")
	}
	if u.kid == "" {
		return invalid(ReasonUnknownKey, "a JWT-SVID names its key by kid")
	}
	sub, _ := u.claims["sub"].(string)
	id, err := certs.ParseID(sub)
	if err != nil || id.TrustDomain() != i.svid {
		return invalid(ReasonSubject, fmt.Sprintf("claim sub of a JWT-SVID is a SPIFFE ID of %s", i.svid))
	}
	return nil
}
