package quiclink

import (
	"log/slog"
	"net"
	"os"
)

// wantedBuffer is what we ask of the kernel for a UDP socket, each way, in bytes: what quic-go would ask for.
const wantedBuffer = 7 << 20

// A Socket is a UDP socket as QUIC wants it: with large buffers and, on Linux, datagrams that arrive close together
// taken from the kernel as one (GRO). quic-go finds on it what it needs to send that way by itself (GSO), and ECN.
type Socket struct {
	*net.UDPConn
	buffers Buffers
	batch   // how it reads; on Linux
}

// Prepare makes a Socket of conn, which it owns from now on.
func Prepare(conn *net.UDPConn) *Socket {
	quiet()
	s := &Socket{UDPConn: conn, buffers: enlarge(conn)}
	s.begin(conn)
	return s
}

// Buffers says what the kernel gave.
func (s *Socket) Buffers() Buffers { return s.buffers }

// Buffers are the sizes of a UDP socket's buffers in bytes, as the system's settings count them.
type Buffers struct{ Wanted, Receive, Send int }

// Short says that the kernel gave less than was wanted: QUIC then loses packets under load.
func (b Buffers) Short() bool { return min(b.Receive, b.Send) < b.Wanted }

// Report logs a shortfall, with its cure.
func (b Buffers) Report(log *slog.Logger) {
	if b.Short() {
		log.Warn("udp buffers are small, quic will be slow under load", "wanted_bytes", b.Wanted,
			"got_bytes", min(b.Receive, b.Send), "receive_bytes", b.Receive, "send_bytes", b.Send, "hint", cure)
	}
}

// quiet keeps quic-go from printing to stderr what Report logs.
func quiet() { _ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") } // fails on bad names only
