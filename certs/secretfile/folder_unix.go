//go:build unix

package secretfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// checkFolders refuses a secret in a folder that everybody may write to: whoever can swap the file, or a folder above it, has
// a say in what is read next. With the sticky bit nobody can. Both the way to a link and that to its target count.
func checkFolders(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("secret file %s: %w", path, err)
	}
	for _, way := range []string{path, target} {
		for dir := filepath.Dir(way); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return fmt.Errorf("secret file %s: %w", path, err)
			}
			if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
				return &AccessError{Path: path, Text: fmt.Sprintf("its folder %s has mode %#o, which lets everybody swap files: expected mode 0700 or 0755",
					dir, info.Mode().Perm())}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}
