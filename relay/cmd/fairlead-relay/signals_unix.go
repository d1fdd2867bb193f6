//go:build !windows

package main

import (
	"os"
	"syscall"
)

// hangups are the signals that ask for a reload.
var hangups = []os.Signal{syscall.SIGHUP}
