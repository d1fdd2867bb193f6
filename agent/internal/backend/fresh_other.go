//go:build !unix

package backend

import "syscall"

// canLook says that fresh cannot tell: connections are net/http's to keep.
const canLook = false

func fresh(syscall.RawConn) bool { return false }
