package bearer

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
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
	name, ok := u.claims["iss"].(string)
	if !ok || name == "" {
		return nil, invalid(ReasonIssuer, "claim iss is missing")
	}
	iss := v.issuers[name]
	if iss == nil {
		return nil, invalid(ReasonIssuer, "issuer "+quote(name)+" is not configured")
	}
	if !slices.Contains(iss.conf.Algorithms, u.alg) {
		return nil, invalid(ReasonAlgorithm, "algorithm "+quote(u.alg)+" is not allowed for this issuer")
	}
	if err := checkShape(u); err != nil {
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
	v.cache.put(sum, &entry{token: token, issuer: iss, keys: set}, time.Now())
	return token, nil
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

func newParser(conf Issuer, leeway time.Duration) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods(conf.Algorithms),
		jwt.WithStrictDecoding(),
		jwt.WithIssuer(conf.URL),
		jwt.WithAudience(conf.Audiences...),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
	)
}
