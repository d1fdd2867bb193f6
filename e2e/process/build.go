//go:build linux

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module is the import path that the folders of this repository hang under.
const module = "github.com/fairlead/fairlead"

// built holds the programs of this test process; the folder goes with RemoveBuilt.
var built = struct {
	sync.Mutex
	dir  string
	errs map[string]error // by binary; a key is there once the build was tried
}{errs: map[string]error{}}

// Build builds the command in the repository's folder (such as relay/cmd/fairlead-relay) once per test process, with
// the race detector if the test has it, and returns the binary's path. A failing build ends the test.
func Build(t testing.TB, folder string) string {
	t.Helper()
	return buildOnce(t, folder, raced)
}

// BuildFast is Build without the race detector, for tests that move so much that it would take minutes.
func BuildFast(t testing.TB, folder string) string {
	t.Helper()
	return buildOnce(t, folder, false)
}

func buildOnce(t testing.TB, folder string, race bool) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "fairlead-bin-")
		if err != nil {
			t.Fatalf("making a folder for binaries: %v", err)
		}
		// Servers that drop root's rights run these binaries too.
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatalf("opening the folder for binaries: %v", err)
		}
		built.dir = dir
	}
	binary := filepath.Join(built.dir, path.Base(folder))
	if race {
		binary += "-race"
	}
	if _, tried := built.errs[binary]; !tried {
		built.errs[binary] = build(binary, folder, race)
	}
	if err := built.errs[binary]; err != nil {
		t.Fatal(err)
	}
	return binary
}

func build(binary, folder string, race bool) error {
	// Without the version of the sources: git refuses where they are another user's.
	args := []string{"build", "-buildvcs=false", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, module+"/"+folder)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", folder, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// RemoveBuilt removes what Build built. Call it once, after all tests.
func RemoveBuilt() error {
	built.Lock()
	defer built.Unlock()
	return os.RemoveAll(built.dir)
}
