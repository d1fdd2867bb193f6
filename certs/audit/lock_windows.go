package audit

import (
	"os"

	"golang.org/x/sys/windows"
)

// lock keeps a second process from writing the file; it ends with the file's Close. The locked byte lies beyond every
// file's end, since Windows keeps others from reading what is locked.
func lock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{OffsetHigh: 1 << 30})
}
