//go:build linux

package lab

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A namespace is a network namespace that no file names: it lives while someone holds it, so that a test process
// which crashes leaves none behind.
type namespace struct {
	file *os.File
}

// newNamespace makes an empty network namespace.
func newNamespace() (*namespace, error) {
	var n *namespace
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		n = &namespace{file: file}
		return err
	})
	return n, err
}

// within runs f on a thread inside the namespace. What f opens (sockets, devices, programs) stays in it. f must do
// its work on the goroutine that calls it.
func (n *namespace) within(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering the network namespace: %w", err)
		}
		return f()
	})
}

// path names the namespace for other programs while this process holds it.
func (n *namespace) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

func (n *namespace) close() error { return n.file.Close() }

// onOwnThread runs f on a thread that ends with it, so that nothing else ever runs in a namespace by accident.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		done <- f()
	}()
	return <-done
}
