package bearer

import (
	"math"
	"strings"
	"time"
)

// latest is the last second of the year 9999, beyond which a time in a token is a mistake or a trick.
const latest = 253402300799

// checkShape looks at the claims before golang-jwt does, which takes numbers that overflow time, a missing sub, and
// tokens that were made for another purpose.
func checkShape(u *unverified) error {
	c := u.claims
	exp, err := seconds(c, "exp")
	if err != nil {
		return invalid(ReasonExpiry, err.Error())
	}
	if exp.IsZero() {
		return invalid(ReasonExpiry, "claim exp is missing")
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, err := seconds(c, name); err != nil {
			return invalid(ReasonMalformed, err.Error())
		}
	}
	if sub, ok := c["sub"].(string); !ok || sub == "" {
		return invalid(ReasonSubject, "claim sub is missing or no string")
	}
	if len(audience(c)) == 0 {
		return invalid(ReasonAudience, "claim aud is missing or not made of strings")
	}
	return checkPurpose(u)
}

// checkPurpose refuses the tokens of OpenID Connect that are no access tokens: an ID token says what a login was, a
// logout token ends one.
func checkPurpose(u *unverified) error {
	marks := []string{"at_hash", "c_hash", "events"}
	if u.typ != "at+jwt" {
		marks = append(marks, "nonce")
	}
	for _, name := range marks {
		if _, ok := u.claims[name]; ok {
			return invalid(ReasonType, "claim "+name+" is of an ID or logout token, an access token is expected")
		}
	}
	switch kind, _ := u.claims["typ"].(string); kind { // Keycloak writes the purpose into the claims
	case "ID", "Refresh", "Offline", "Logout":
		return invalid(ReasonType, "claim typ is "+kind+", an access token is expected")
	}
	return nil
}

type shapeError string

func (e shapeError) Error() string { return string(e) }

// seconds reads a NumericDate (RFC 7519 §2); the zero time where there is none.
func seconds(c map[string]any, name string) (time.Time, error) {
	v, there := c[name]
	if !there {
		return time.Time{}, nil
	}
	f, ok := v.(float64)
	if !ok {
		return time.Time{}, shapeError("claim " + name + " is not a number")
	}
	if f <= 0 || f > latest {
		return time.Time{}, shapeError("claim " + name + " is no time between the years 1970 and 9999")
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}

// audience reads aud: a string or an array of strings; nil for anything else.
func audience(c map[string]any) []string {
	switch v := c["aud"].(type) {
	case string:
		return []string{v}
	case []any:
		all, _ := stringsOf(v)
		return all
	}
	return nil
}

// scopes reads scope (RFC 8693 §4.2: one string, names separated by spaces) or else scp, which some issuers write as an
// array and some as such a string.
func scopes(c map[string]any) ([]string, error) {
	for _, name := range []string{"scope", "scp"} {
		switch v := c[name].(type) {
		case nil:
		case string:
			return strings.FieldsFunc(v, func(r rune) bool { return r == ' ' }), nil
		case []any:
			if all, ok := stringsOf(v); ok {
				return all, nil
			}
			return nil, invalid(ReasonMalformed, "claim "+name+" is not made of strings")
		default:
			return nil, invalid(ReasonMalformed, "claim "+name+" is neither a string nor an array")
		}
	}
	return nil, nil
}

func stringsOf(values []any) ([]string, bool) {
	all := make([]string, 0, len(values))
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}

// readClaims makes a Token of claims that have verified; checkShape has seen their kinds.
func readClaims(u *unverified) (*Token, error) {
	c := u.claims
	t := &Token{Audience: audience(c), Claims: c}
	t.Issuer, _ = c["iss"].(string)
	t.Subject, _ = c["sub"].(string)
	t.ID, _ = c["jti"].(string)
	var err error
	if t.Expires, err = seconds(c, "exp"); err != nil {
		return nil, invalid(ReasonExpiry, err.Error())
	}
	if t.IssuedAt, err = seconds(c, "iat"); err != nil {
		return nil, invalid(ReasonMalformed, err.Error())
	}
	t.Scopes, err = scopes(c)
	return t, err
}
