package secretfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Write replaces the file as a whole: a crash leaves the old content or the new one, and at no time may anybody else read
// either. On Unix its mode is 0600; on Windows its access list has SYSTEM, the Administrators and this process's user.
func Write(path string, b []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"-"+rand.Text()[:8])
	f, err := create(tmp)
	if err != nil {
		return fmt.Errorf("writing secret file %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("writing secret file %s: %w", path, errors.Join(err, os.Remove(tmp)))
	}
	return syncFolder(filepath.Dir(path))
}

// sealedType is the PEM type of what Seal has sealed.
const sealedType = "FAIRLEAD DPAPI"
