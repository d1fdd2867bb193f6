package bearer

import "time"

// A Token is what a verified token says. It is shared between calls: nobody changes it.
type Token struct {
	Issuer   string
	Subject  string
	Audience []string // everyone it is meant for, us among them
	Scopes   []string // of the claim scope, or else scp
	Expires  time.Time
	IssuedAt time.Time      // zero where the token does not say
	ID       string         // jti; "" where the token does not say
	Claims   map[string]any // all of them, as encoding/json decodes them: numbers are float64
}
