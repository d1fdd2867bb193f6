package relay

import "github.com/fairlead/fairlead/relay/internal/login"

// NewTOTPSecret makes a user's secret for a second factor: the line for the file of `totp`, and the otpauth URI for an
// authenticator app.
func NewTOTPSecret(issuer, user string) (line, uri string, err error) {
	return login.NewSecret(issuer, user)
}
