package front

import (
	"os"

	"golang.org/x/sys/unix"
)

// wantedBuffer is what quic-go asks of the kernel for a UDP socket, each way, in bytes.
const wantedBuffer = 7 << 20

// quietBufferWarning keeps quic-go from printing to stderr what checkBuffers logs.
func quietBufferWarning() { _ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") }

// checkBuffers says once where the kernel gave the UDP socket less: QUIC then loses packets under load.
func (f *Front) checkBuffers() {
	raw, err := f.udp.SyscallConn()
	if err != nil {
		return
	}
	var receive, send int
	var errReceive, errSend error
	err = raw.Control(func(fd uintptr) {
		receive, errReceive = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		send, errSend = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
	})
	if err != nil || errReceive != nil || errSend != nil || min(receive, send) >= wantedBuffer {
		return
	}
	f.log.Warn("udp buffers are small, quic will be slow under load", "wanted_bytes", wantedBuffer,
		"receive_bytes", receive, "send_bytes", send, "hint", "raise net.core.rmem_max and net.core.wmem_max")
}
