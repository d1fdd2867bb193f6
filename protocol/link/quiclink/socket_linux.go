package quiclink

import (
	"net"

	"golang.org/x/sys/unix"
)

const cure = "sysctl -w net.core.rmem_max=7340032 net.core.wmem_max=7340032"

// enlarge asks for large buffers, past the system's bound where this process may. What the kernel answers is twice what
// it was asked for, its own overhead included.
func enlarge(conn *net.UDPConn) Buffers {
	b := Buffers{Wanted: wantedBuffer}
	raw, err := conn.SyscallConn()
	if err != nil {
		return b
	}
	ask := func(fd, force, option int) int {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, wantedBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, wantedBuffer) // the answer is read below
		}
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil {
			return 0
		}
		return got / 2
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed socket, which its first use reports
		b.Receive = ask(int(fd), unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
		b.Send = ask(int(fd), unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	})
	return b
}
