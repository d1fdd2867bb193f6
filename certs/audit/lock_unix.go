//go:build unix

package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock keeps a second process from writing the file; it ends with the file's Close.
func lock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
