//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// entered marks a test process that Enter has started again.
const entered = "FAIRLEAD_LAB_ENTERED"

// Enter makes labs possible for an ordinary user: called first in TestMain, it runs the test again as root of a user
// and network namespace of its own and exits with that run's status. It returns at once where the process is root, is
// that second run, or may not make user namespaces (New says so then).
func Enter() {
	if os.Geteuid() == 0 {
		if os.Getenv(entered) != "" {
			if err := loopbackUp(); err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
				os.Exit(1)
			}
		}
		return
	}
	status, err := again()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: going on without user namespaces:", err)
		return
	}
	os.Exit(status)
}

// again runs this process's command line in the namespaces and returns its status. Its error means that the run did
// not begin.
func again() (int, error) {
	runtime.LockOSThread() // Pdeathsig follows the thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), entered+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

func loopbackUp() error {
	out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip link set lo up: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
