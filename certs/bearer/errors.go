package bearer

import (
	"errors"
	"strconv"
)

// ErrUnavailable says that a token cannot be judged, because its issuer's keys are not there: never fetched, or stale
// beyond the grace. It is not the caller's fault.
var ErrUnavailable = errors.New("keys of the token's issuer are unavailable")

// Reason is the word for what is wrong with a token; it is stable, and fit for a metric label.
type Reason string

// The reasons of an InvalidError.
const (
	ReasonTooLarge    Reason = "too_large"     // more than 8 KiB
	ReasonMalformed   Reason = "malformed"     // not a JWT: parts, base64, JSON, duplicate keys, a claim's kind
	ReasonType        Reason = "type"          // typ, or claims, of something other than an access token
	ReasonCritical    Reason = "critical"      // crit or b64: extensions that must be understood, and are not
	ReasonAlgorithm   Reason = "algorithm"     // not among the issuer's
	ReasonIssuer      Reason = "issuer"        // missing, or not configured
	ReasonUnknownKey  Reason = "unknown_key"   // no key of the issuer has this kid, or fits the algorithm
	ReasonSignature   Reason = "signature"     // does not verify
	ReasonAudience    Reason = "audience"      // missing, or none of ours
	ReasonSubject     Reason = "subject"       // missing
	ReasonExpiry      Reason = "expiry"        // exp missing or no sane number
	ReasonExpired     Reason = "expired"       // exp passed, leeway included
	ReasonInactive    Reason = "inactive"      // its issuer says that it does not hold, or not here
	ReasonProof       Reason = "proof"         // its DPoP proof does not hold
	ReasonNotYetValid Reason = "not_yet_valid" // nbf or iat in the future, leeway included
)

// An InvalidError says why a token was refused. Neither field contains the token.
type InvalidError struct {
	Reason Reason
	Detail string // safe to log: what came from the token is escaped and cut
}

func (e *InvalidError) Error() string { return "token is invalid: " + e.Detail }

func invalid(reason Reason, detail string) error {
	return &InvalidError{Reason: reason, Detail: detail}
}

// maxQuoted is how many bytes of a header or claim go into an error.
const maxQuoted = 80

func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
