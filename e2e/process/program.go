//go:build linux

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// sbin are the folders of Debian's servers, which an ordinary user's PATH leaves out.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// Program returns the path of an installed program: in the PATH, in the folders of system programs, or in one of the
// further folders. Where it is missing the test says which Debian package brings it, and fails in CI and as root
// (who may install it), else skips.
func Program(t testing.TB, name, debianPackage string, further ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil && len(further) == 0 {
		return path
	}
	for _, dir := range append(further, sbin...) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	Missing(t, name+" is not installed; it comes with: apt-get install "+debianPackage)
	return ""
}

// Missing ends the test for want of something: it fails where nobody may look away (CI, root), else it skips.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" || User() == Root {
		t.Fatal(why)
	}
	t.Skip(why)
}
