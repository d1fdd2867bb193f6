package bearer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fairlead/fairlead/certs"
)

// Verify judges a compact JWT. The error is an *InvalidError, or wraps ErrUnavailable, or is ctx's. It blocks only for
// a token with a kid that its issuer's set does not have, for at most one fetch (5 s).
//
// A token that has verified is remembered for at most a minute while its issuer's keys stay the same, so that a warm
// call does not pay for the signature again.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Token, error) {
	if len(raw) > maxToken {
		return nil, invalid(ReasonTooLarge, "at most 8 KiB are allowed")
	}
	sum := sha256.Sum256([]byte(raw))
	if token := v.cache.get(sum, time.Now()); token != nil {
		return token, nil
	}
	u, err := parse(raw)
	if err != nil {
		return nil, err
	}
	iss, err := v.issuerOf(u)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(iss.conf.Algorithms, u.alg) {
		return nil, invalid(ReasonAlgorithm, "algorithm "+quote(u.alg)+" is not allowed for this issuer")
	}
	if err := checkShape(u); err != nil {
		return nil, err
	}
	if err := iss.checkKind(u); err != nil {
		return nil, err
	}
	set, err := iss.keysFor(ctx, u.kid, u.alg)
	if err != nil {
		return nil, err
	}
	if err := iss.check(raw, set.find(u.kid, u.alg)); err != nil {
		return nil, err
	}
	token, err := readClaims(u)
	if err != nil {
		return nil, err
	}
	token.Issuer = iss.conf.URL // which a JWT-SVID need not say
	v.cache.put(sum, &entry{token: token, issuer: iss, keys: set}, time.Now())
	return token, nil
}

// VerifyFrom is Verify for a token that must be of that issuer. Where its tokens are opaque the issuer is asked what the token
// means, and the answer is remembered for a while; it blocks then, for 5 s at most.
func (v *Verifier) VerifyFrom(ctx context.Context, issuer, raw string) (*Token, error) {
	iss := v.issuers[issuer]
	if iss == nil {
		return nil, fmt.Errorf("%w: issuer %q is not configured", ErrUnavailable, issuer)
	}
	if iss.opaque != nil {
		if len(raw) > maxToken {
			return nil, invalid(ReasonTooLarge, "at most 8 KiB are allowed")
		}
		return iss.opaque.verify(ctx, raw)
	}
	token, err := v.Verify(ctx, raw)
	if err == nil && token.Issuer != issuer {
		return nil, invalid(ReasonIssuer, "one of issuer "+issuer+" is expected")
	}
	return token, err
}

// issuerOf finds the issuer that a token claims. A JWT-SVID is its subject's trust domain's, whatever iss says; another
// token may not pass for one, since its issuer is found by iss first.
func (v *Verifier) issuerOf(u *unverified) (*issuer, error) {
	name, _ := u.claims["iss"].(string)
	if iss := v.issuers[name]; iss != nil && iss.svid.IsZero() && iss.opaque == nil {
		return iss, nil
	}
	if sub, _ := u.claims["sub"].(string); strings.HasPrefix(sub, svidScheme) {
		if td, err := certs.ParseID(sub); err == nil {
			if iss := v.issuers[svidScheme+td.TrustDomain().Name()]; iss != nil {
				return iss, nil
			}
		}
	}
	if name == "" {
		return nil, invalid(ReasonIssuer, "claim iss is missing")
	}
	return nil, invalid(ReasonIssuer, "issuer "+quote(name)+" is not configured")
}

// check has golang-jwt verify the signature and what it is good at: iss, aud, exp, nbf and iat.
func (i *issuer) check(raw string, keys []jwt.VerificationKey) error {
	_, err := i.parser.ParseWithClaims(raw, jwt.MapClaims{}, func(*jwt.Token) (any, error) {
		return jwt.VerificationKeySet{Keys: keys}, nil
	})
	if err == nil {
		return nil
	}
	for _, known := range []struct {
		err    error
		reason Reason
		detail string
	}{
		{jwt.ErrTokenSignatureInvalid, ReasonSignature, "signature does not verify"},
		{jwt.ErrTokenUnverifiable, ReasonUnknownKey, "no key fits"},
		{jwt.ErrTokenInvalidIssuer, ReasonIssuer, "claim iss is another issuer"},
		{jwt.ErrTokenInvalidAudience, ReasonAudience, "claim aud does not name us"},
		{jwt.ErrTokenExpired, ReasonExpired, "expired"},
		{jwt.ErrTokenNotValidYet, ReasonNotYetValid, "claim nbf is in the future"},
		{jwt.ErrTokenUsedBeforeIssued, ReasonNotYetValid, "claim iat is in the future"},
		{jwt.ErrTokenRequiredClaimMissing, ReasonAudience, "claim aud is empty"}, // iss and exp were there before
	} {
		if errors.Is(err, known.err) {
			return invalid(known.reason, known.detail)
		}
	}
	return invalid(ReasonMalformed, "not a JWT that can be read") // the library's text may quote the token
}

func newParser(conf Issuer, svid certs.TrustDomain, leeway time.Duration) *jwt.Parser {
	issuer := jwt.WithIssuer(conf.URL)
	if !svid.IsZero() {
		issuer = func(*jwt.Parser) {} // checkKind looks at the subject instead
	}
	return jwt.NewParser(
		issuer,
		jwt.WithValidMethods(conf.Algorithms),
		jwt.WithStrictDecoding(),
		jwt.WithAudience(conf.Audiences...),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
	)
}
