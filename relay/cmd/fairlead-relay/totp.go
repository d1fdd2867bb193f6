package main

import (
	"fmt"

	"github.com/fairlead/fairlead/relay"
)

type totpCommand struct {
	User   string `required:"" help:"The user, as the token's sub or the directory says."`
	Issuer string `default:"Fairlead" help:"What the authenticator app shows beside the user."`
}

// Run prints a secret, which is kept nowhere.
func (c *totpCommand) Run(s streams) error {
	line, uri, err := relay.NewTOTPSecret(c.Issuer, c.User)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "line, for the file that totp names in relay.yaml: %s\nURI, for the user's authenticator app: %s\n", line, uri)
	return nil
}
