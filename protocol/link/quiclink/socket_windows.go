package quiclink

import (
	"net"

	"golang.org/x/sys/windows"
)

const cure = "the system gives no more"

// enlarge asks for large buffers.
func enlarge(conn *net.UDPConn) Buffers {
	b := Buffers{Wanted: wantedBuffer}
	_, _ = conn.SetReadBuffer(wantedBuffer), conn.SetWriteBuffer(wantedBuffer) // the answer is read below
	raw, err := conn.SyscallConn()
	if err != nil {
		return b
	}
	size := func(fd uintptr, option int) int {
		got, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, option)
		if err != nil {
			return 0
		}
		return got
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed socket, which its first use reports
		b.Receive, b.Send = size(fd, windows.SO_RCVBUF), size(fd, windows.SO_SNDBUF)
	})
	return b
}
