//go:build !linux && !windows

package quiclink

import "net"

const cure = "raise the system's bound of socket buffers"

// enlarge asks for large buffers, and cannot see the answer.
func enlarge(conn *net.UDPConn) Buffers {
	b := Buffers{Wanted: wantedBuffer}
	if conn.SetReadBuffer(wantedBuffer) == nil {
		b.Receive = wantedBuffer
	}
	if conn.SetWriteBuffer(wantedBuffer) == nil {
		b.Send = wantedBuffer
	}
	return b
}
