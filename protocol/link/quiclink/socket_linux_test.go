package quiclink_test

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// option reads an option of a socket.
func option(t *testing.T, c *net.UDPConn, level, name int) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	var errOption error
	if err := raw.Control(func(fd uintptr) { v, errOption = unix.GetsockoptInt(int(fd), level, name) }); err != nil || errOption != nil {
		t.Fatal(err, errOption)
	}
	return v
}

// sendAsOne hands the kernel b as datagrams of size bytes, as quic-go does.
func sendAsOne(t *testing.T, from, to *net.UDPConn, b []byte, size uint16) {
	t.Helper()
	oob := make([]byte, unix.CmsgSpace(2))
	binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(oob[8:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(oob[12:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(oob[16:], size)
	if _, _, err := from.WriteMsgUDP(b, oob, to.LocalAddr().(*net.UDPAddr)); err != nil {
		t.Fatal(err)
	}
}

func TestDatagramsThatCameAsOneAreReadOneByOne(t *testing.T) {
	to, a, b := udp(t), udp(t), udp(t)
	s := quiclink.Prepare(to)
	if option(t, to, unix.IPPROTO_UDP, unix.UDP_GRO) != 1 {
		t.Error("the kernel was not asked for GRO")
	}
	type datagram struct {
		from string
		size int
		fill byte
	}
	var want []datagram
	send := func(from *net.UDPConn, sizes ...int) { // all of one size, but for the last one
		var all []byte
		for _, n := range sizes {
			fill := byte(len(want) + 1)
			all = append(all, bytes.Repeat([]byte{fill}, n)...)
			want = append(want, datagram{from.LocalAddr().String(), min(n, 1452), fill})
		}
		sendAsOne(t, from, to, all, uint16(sizes[0]))
	}
	send(a, slices.Repeat([]int{1200}, 20)...)
	send(b, 1000, 1000, 300)
	send(a, 50)
	send(b, 1452, 1452, 1)
	send(a, 3000) // more than quic-go's buffers hold: it is cut, and the next one is whole
	send(a, 7)

	messages := make([]ipv4.Message, 3)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 1452)}
		messages[i].OOB = make([]byte, 128)
	}
	_ = s.SetReadDeadline(time.Now().Add(time.Minute))
	var got []datagram
	for len(got) < len(want) {
		n, err := s.ReadBatch(messages, 0)
		if err != nil || n == 0 {
			t.Fatalf("read %d datagrams, %v", n, err)
		}
		for _, m := range messages[:n] {
			body := m.Buffers[0][:m.N]
			got = append(got, datagram{m.Addr.String(), m.N, body[0]})
			if bytes.Count(body, body[:1]) != m.N {
				t.Errorf("datagram %d is a mixture", len(got))
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nexpected %v", got, want)
	}
}

func TestShortBuffersAreSaidInWords(t *testing.T) {
	conn := udp(t)
	b := quiclink.Prepare(conn).Buffers()
	if got := option(t, conn, unix.SOL_SOCKET, unix.SO_RCVBUF) / 2; got != b.Receive || b.Receive < 64<<10 {
		t.Errorf("receive buffer: reported %d, the kernel says %d", b.Receive, got)
	}
	if got := option(t, conn, unix.SOL_SOCKET, unix.SO_SNDBUF) / 2; got != b.Send || b.Send < 64<<10 {
		t.Errorf("send buffer: reported %d, the kernel says %d", b.Send, got)
	}
	var log strings.Builder
	quiclink.Buffers{Wanted: 7, Receive: 7, Send: 7}.Report(slog.New(slog.NewTextHandler(&log, nil)))
	if log.Len() > 0 {
		t.Errorf("enough is reported as a shortfall: %s", log.String())
	}
	quiclink.Buffers{Wanted: 7000, Receive: 9000, Send: 208}.Report(slog.New(slog.NewTextHandler(&log, nil)))
	for _, want := range []string{"level=WARN", "wanted_bytes=7000", "got_bytes=208", "net.core.wmem_max"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is missing in %s", want, log.String())
		}
	}
}
