package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

type appCommands struct {
	Secret appSecretCommand `cmd:"" help:"Make a client secret, and its hash for the configuration."`
}

type appSecretCommand struct{}

// Run prints a secret of 256 random bits, which is kept nowhere.
func (appSecretCommand) Run(s streams) error {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return err
	}
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	fmt.Fprintf(s.out, "secret, for the app alone: %s\nhash, for secrets in relay.yaml: sha256:%x\n", secret, sha256.Sum256([]byte(secret)))
	return nil
}
