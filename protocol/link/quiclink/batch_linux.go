package quiclink

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// groBatch is how many reads of the kernel are made in one system call.
	groBatch = 4
	// groSize is what one of them brings at most, in bytes: datagrams of one size back to back. The memory is touched
	// only as far as they reach.
	groSize = 64 << 10
	// groControl has room for the control messages of one read: ECN, destination, segment size.
	groControl = 128
)

// batch reads for a Socket. quic-go calls ReadBatch, from one goroutine, instead of reading the socket by itself, and
// knows nothing of GRO: it gets single datagrams.
type batch struct {
	conn  *ipv4.PacketConn // which reads IPv6 too: only the name says otherwise
	gro   bool
	reads []ipv4.Message // what the last system call brought, from next on
	next  int
	left  []byte // of reads[next], what was not handed out
	size  int    // of its datagrams, but for the last one
	all   []ipv4.Message
}

func (b *batch) begin(conn *net.UDPConn) {
	b.conn = ipv4.NewPacketConn(conn)
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed socket, which its first use reports
		b.gro = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil // Linux 5.0
	})
	if !b.gro {
		return
	}
	b.all = make([]ipv4.Message, groBatch)
	for i := range b.all {
		b.all[i].Buffers = [][]byte{make([]byte, groSize)}
		b.all[i].OOB = make([]byte, groControl)
	}
}

// ReadBatch fills messages with datagrams and returns how many. It blocks for the first one only. A datagram larger
// than its message's buffer is cut, as the kernel cuts it.
func (b *batch) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	if !b.gro {
		return b.conn.ReadBatch(messages, flags)
	}
	if len(b.left) == 0 && b.next == len(b.reads) {
		n, err := b.conn.ReadBatch(b.all, flags)
		if err != nil {
			return 0, err
		}
		b.reads, b.next = b.all[:n], 0
		b.open()
	}
	n := 0
	for n < len(messages) && b.next < len(b.reads) {
		from, to := &b.reads[b.next], &messages[n]
		k := min(b.size, len(b.left))
		to.N = copy(to.Buffers[0], b.left[:k])
		to.NN = copy(to.OOB, from.OOB[:from.NN])
		to.Flags, to.Addr = from.Flags, from.Addr
		n++
		if b.left = b.left[k:]; len(b.left) == 0 {
			b.next++
			b.open()
		}
	}
	return n, nil
}

// open prepares reads[next].
func (b *batch) open() {
	if b.next == len(b.reads) {
		b.left = nil
		return
	}
	m := &b.reads[b.next]
	b.left = m.Buffers[0][:m.N]
	if b.size = segmentSize(m.OOB[:m.NN]); b.size <= 0 {
		b.size = len(b.left)
	}
}

// segmentSize finds the size of the datagrams that came as one; 0 where there was one only.
func segmentSize(oob []byte) int {
	for len(oob) > 0 {
		header, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_GRO && len(body) >= 4 {
			return int(binary.NativeEndian.Uint32(body))
		}
		oob = rest
	}
	return 0
}
