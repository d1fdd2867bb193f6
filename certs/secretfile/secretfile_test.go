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

func TestASecretWhereOthersCanSwapItIsRefused(t *testing.T) { // O01
	path := write(t, 0o600)
	parent := filepath.Dir(path)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for mode, bad := range map[os.FileMode]bool{0o777: true, 0o702: true, 0o777 | os.ModeSticky: false, 0o755: false, 0o700: false} {
		if err := os.Chmod(parent, mode); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, link} {
			err := Check(p)
			if _, ok := errors.AsType[*AccessError](err); ok != bad || !bad && err != nil {
				t.Errorf("mode %v: %v", mode, err)
			}
			if bad && !strings.Contains(err.Error(), parent) {
				t.Errorf("%q does not name the folder", err)
			}
		}
	}
}

// TestSecretsAsKubernetesAndSystemdLayThemOut: a volume's folder is everybody's with the sticky bit, and its files are links
// through ..data.
func TestSecretsAsKubernetesAndSystemdLayThemOut(t *testing.T) {
	volume := t.TempDir()
	if err := os.Chmod(volume, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(volume, "..2026_11_26")
	if err := os.Mkdir(version, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(version, "tls.key"), []byte("s3cret"), 0o440); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"..data": "..2026_11_26", "tls.key": "..data/tls.key"} {
		if err := os.Symlink(target, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Read(filepath.Join(volume, "tls.key"), 100); err != nil {
		t.Errorf("Kubernetes: %v", err)
	}
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.Mkdir(credentials, 0o500); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(credentials, "key")
	if err := os.Chmod(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("s3cret"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 100); err != nil {
		t.Errorf("systemd: %v", err)
	}
}

func TestWriteReplacesTheFileAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, text := range []string{"first", "second"} {
		if err := Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := Read(path, 100); err != nil || string(b) != text {
			t.Errorf("got %q, %v", b, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := Write(filepath.Join(path, "x"), nil); err == nil {
		t.Error("written below a file")
	}
}

func TestWhatWasSealedOnWindowsOpensThereAlone(t *testing.T) {
	b, err := Seal([]byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unseal(b); err != nil || string(got) != "s3cret" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Unseal([]byte("-----BEGIN FAIRLEAD DPAPI-----\nAAAA\n-----END FAIRLEAD DPAPI-----\n")); err == nil {
		t.Error("opened what another machine has sealed")
	}
}
