// Package secretfile reads and writes files that hold secrets, and refuses to read those that others can: the link is
// resolved, the owner is root or this process, there are no bits for others, bits for a group only where the process is in
// it, and nobody else can swap the file. On Windows the file's access list says the same.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// An AccessError says why a file is not fit to hold a secret.
type AccessError struct {
	Path string
	Text string // what was found, and what is expected
}

func (e *AccessError) Error() string { return "secret file " + e.Path + ": " + e.Text }

// Read returns the content of a secret file of at most limit bytes. What is checked is the very file that is read, so
// that nobody can swap it in between. Errors name the path, never the content.
func Read(path string, limit int64) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading secret file %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("secret file %s: more than %d bytes", path, limit)
	}
	return b, nil
}

// Check returns what Read would refuse about the file, without reading it.
func Check(path string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		if perr, ok := errors.AsType[*fs.PathError](err); ok {
			err = perr.Err
		}
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &AccessError{Path: path, Text: "a regular file is expected"}
	}
	if err == nil {
		err = checkAccess(path, f, info)
	}
	if err == nil {
		err = checkFolders(path)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}
