//go:build unix

package backend

import "syscall"

// canLook says that fresh can tell.
const canLook = true

// fresh reports whether nothing has come on an idle connection: neither its end, nor bytes that nobody asked for. It
// does not block.
func fresh(c syscall.RawConn) bool {
	var n int
	var err error
	var b [1]byte
	if c.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), b[:])
		return true // whatever came of it: sockets here never block
	}) != nil {
		return false
	}
	return n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
}
