package front

import (
	"net"

	"golang.org/x/sys/unix"
)

// receiveBuffer returns what the kernel gave, in bytes; 0 where it does not say.
func receiveBuffer(c *net.UDPConn) (size int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // size stays 0
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			size = n / 2 // the kernel counts its own bookkeeping too (socket(7))
		}
	})
	return size
}
