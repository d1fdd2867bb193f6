package certs

import "time"

// An Identity is what one verified SVID proves. It holds until NotAfter, while the Source's Generation stays the same.
type Identity struct {
	ID         ID
	NotAfter   time.Time // the earliest end of the leaf and the certificates that it chains through
	Serial     string    // of the leaf, in hexadecimal
	Generation uint64    // of the Source, when it was verified
}
