//go:build linux

package process

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Kind of user, as the kernel sees this process.
type Kind int

// The kinds.
const (
	Ordinary   Kind = iota
	Root            // of the machine, or of a container with users of its own
	RootOfNone      // of a user namespace that holds no other user: an ordinary user, in e2e/lab
)

// User returns the kind of user that this process runs as.
var User = sync.OnceValue(func() Kind {
	if os.Geteuid() != 0 {
		return Ordinary
	}
	users, err := os.ReadFile("/proc/self/uid_map") // first inside, first outside, count
	if fields := strings.Fields(string(users)); err == nil && len(fields) == 3 && fields[2] == "1" {
		return RootOfNone
	}
	return Root
})

// Unprivileged returns the command line that runs a program which refuses to run as root: as the given user where this
// process is root. Prefix it to the program's own.
func Unprivileged(as string) []string {
	switch User() {
	case Root:
		return []string{"setpriv", "--reuid", as, "--regid", as, "--clear-groups", "--pdeathsig", "KILL", "--"}
	case RootOfNone:
		return []string{"unshare", "--user", "--map-user=1000", "--map-group=1000", "--"}
	default:
		return nil
	}
}

// Folder returns a new folder that goes with the test, for a program that runs under Unprivileged(as). (Those of
// testing.T are root's alone.)
func Folder(t testing.TB, as string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fairlead-e2e-")
	if err != nil {
		t.Fatalf("making a folder: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing a folder: %v", err)
		}
	})
	Give(t, dir, as)
	return dir
}

// Give makes a file or folder the user's, where this process is root and the user another.
func Give(t testing.TB, path, to string) {
	t.Helper()
	if User() != Root {
		return
	}
	account, err := user.Lookup(to)
	if err != nil {
		Missing(t, "the user "+to+" comes with its server's Debian package: "+err.Error())
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatalf("user id of %s: %v", to, err)
	}
	if err := os.Chown(path, uid, -1); err != nil {
		t.Fatalf("giving a folder to %s: %v", to, err)
	}
}

// Run runs a command to its end and returns its standard output; anything but status 0 ends the test.
func Run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var out, wrong strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &wrong
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), wrong.String())
	}
	return out.String()
}
