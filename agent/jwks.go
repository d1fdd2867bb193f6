package agent

import (
	"context"
	"os"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
)

// jwksEvery is how often the SVID is looked at.
const jwksEvery = 5 * time.Second

// keepJWKS keeps the file with the key of transaction tokens, until ctx ends. Backends that read it while the SVID is renewed
// find the newer key within seconds; those that follow the tokens' chains need not care.
func (a *Agent) keepJWKS(ctx context.Context, path string) {
	keys := bearer.NewTxnSigner(signer{a})
	tick := time.NewTicker(jwksEvery)
	defer tick.Stop()
	written := ""
	for {
		set, err := keys.JWKS()
		if err == nil && string(set) != written {
			if err = writeWhole(path, set); err == nil {
				written = string(set)
			}
		}
		if err != nil {
			a.log.Error("the key of transaction tokens could not be written", "file", path, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// writeWhole writes a file that all may read, so that nobody reads half of it.
func writeWhole(path string, b []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, b, 0o644); err != nil { //nolint:gosec // public keys
		return err
	}
	return os.Rename(next, path)
}
