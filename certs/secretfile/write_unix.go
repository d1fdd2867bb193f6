//go:build unix

package secretfile

import (
	"encoding/pem"
	"errors"
	"os"
)

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// syncFolder makes a rename last over a power cut.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Seal returns what to write for a secret. On Windows that is the secret encrypted by DPAPI for this machine: the access list
// keeps other users away, DPAPI whoever has a disk or a backup alone. (For the machine and not for the user, because an
// administrator enrols and the service's account reads.) Elsewhere it is the secret itself.
func Seal(b []byte) ([]byte, error) { return b, nil }

// Unseal returns the secret in what Seal made, and what nobody has sealed as it is.
func Unseal(b []byte) ([]byte, error) {
	if block, _ := pem.Decode(b); block != nil && block.Type == sealedType {
		return nil, errors.New("the secret was sealed on a Windows machine, and opens there alone")
	}
	return b, nil
}
