//go:build unix

package secretfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretThatOnlyThisProcessReadsIsTaken(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o400, 0o640, 0o440} { // the group is ours
		b, err := Read(write(t, mode), 100)
		if err != nil || string(b) != "s3cret" {
			t.Errorf("mode %#o: %q, %v", mode, b, err)
		}
	}
}

func TestSecretThatOthersReadIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o604, 0o602, 0o601} {
		path := write(t, mode)
		err := Check(path)
		if _, ok := errors.AsType[*AccessError](err); !ok {
			t.Fatalf("mode %#o: %v", mode, err)
		}
		for _, part := range []string{path, "mode 0" + string("0123456"[mode>>6]), "expected", "0600"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("mode %#o: %q does not say %q", mode, err, part)
			}
		}
	}
}

func TestLinkIsResolvedBeforeTheModeIsJudged(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(write(t, 0o644), link); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*AccessError](Check(link)); !ok {
		t.Error("a link hid the mode of its target")
	}
}

func TestSecretOfAnotherOwnerOrGroupIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away takes root")
	}
	const stranger = 54321
	path := write(t, 0o640)
	if err := os.Chown(path, 0, stranger); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err == nil || !strings.Contains(err.Error(), "group 54321") {
		t.Errorf("foreign group: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Errorf("a group without bits: %v", err)
	}
	if err := os.Chown(path, stranger, 0); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err == nil || !strings.Contains(err.Error(), "uid 54321") {
		t.Errorf("foreign owner: %v", err)
	}
}

func TestPipeIsRefusedWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*AccessError](Check(path)); !ok {
		t.Error("a FIFO was taken")
	}
}

func TestSecretBeyondItsLimitIsRefused(t *testing.T) {
	if _, err := Read(write(t, 0o600), 5); err == nil || strings.Contains(err.Error(), "s3c") {
		t.Errorf("got %v", err)
	}
	if _, err := Read(write(t, 0o600), 6); err != nil {
		t.Error(err)
	}
}
