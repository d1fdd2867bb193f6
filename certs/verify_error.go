package certs

// Reason is the word for why an SVID was refused; it is stable, and fit for a metric label.
type Reason string

// The reasons of a VerifyError.
const (
	ReasonNoCertificate      Reason = "no_certificate"       // the peer showed none
	ReasonChainTooLarge      Reason = "chain_too_large"      // more than 4 certificates, or 16 KiB
	ReasonBadID              Reason = "bad_id"               // not exactly one URI SAN, or not a SPIFFE ID
	ReasonNotLeaf            Reason = "not_leaf"             // a CA certificate, or one that may sign others
	ReasonBadKey             Reason = "bad_key"              // a kind or size of key that is not allowed
	ReasonWrongUsage         Reason = "wrong_usage"          // the (extended) key usage excludes this use
	ReasonNotYetValid        Reason = "not_yet_valid"        // before notBefore
	ReasonExpired            Reason = "expired"              // after notAfter
	ReasonUnknownTrustDomain Reason = "unknown_trust_domain" // no bundle for the trust domain it names
	ReasonUntrusted          Reason = "untrusted"            // does not chain to that bundle
	ReasonDenied             Reason = "denied"               // verified, but authorize refused it
	ReasonKeyAgreement       Reason = "key_agreement"        // not a post-quantum one, where that is required
)

// A VerifyError says why an SVID was refused. Its text is safe to log: what came from the peer is escaped and cut.
type VerifyError struct {
	Reason Reason
	Claim  string // the ID that the leaf claims and its issuer, quoted, both unproved; "" without a leaf
	Text   string // what is wrong, in words; for times, which bound and by how much
	Err    error  // the cause; nil where Text says it all
}

// Error returns the claim and the text on one line.
func (e *VerifyError) Error() string {
	s := "verifying SVID"
	if e.Claim != "" {
		s += " " + e.Claim
	}
	return s + ": " + e.Text
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }
