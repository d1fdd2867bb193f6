//go:build linux

package lab

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// A Listener is a socket that strangers could reach: a listening TCP socket, or a UDP socket without a peer. (A UDP
// socket that only ever dials looks the same to the kernel; see Host.Listeners.)
type Listener struct {
	Network string // tcp or udp
	Addr    netip.AddrPort
}

// The states of sockets in /proc/net.
const (
	tcpListen      = 0x0a
	udpUnconnected = 0x07
)

// Listeners returns what listens on the host, loopback included. For UDP the kernel does not tell a server's socket
// from a client's that is not bound to one peer, as quic-go's is: the port tells (a client's is ephemeral).
func (h *Host) Listeners() (all []Listener, err error) {
	err = h.ns.within(func() error {
		for _, table := range []struct {
			file, network string
			state         uint64
		}{
			{"tcp", "tcp", tcpListen}, {"tcp6", "tcp", tcpListen},
			{"udp", "udp", udpUnconnected}, {"udp6", "udp", udpUnconnected},
		} {
			file, err := os.Open("/proc/thread-self/net/" + table.file)
			if errors.Is(err, os.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return err
			}
			found, err := readSockets(file, table.state)
			if err = errors.Join(err, file.Close()); err != nil {
				return fmt.Errorf("reading /proc/net/%s: %w", table.file, err)
			}
			for _, addr := range found {
				all = append(all, Listener{Network: table.network, Addr: addr})
			}
		}
		return nil
	})
	return all, err
}

// readSockets returns the local addresses of the sockets in a state, from a table such as /proc/net/tcp.
func readSockets(table io.Reader, state uint64) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	lines := bufio.NewScanner(table)
	lines.Scan() // the header
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			return nil, fmt.Errorf("expected four fields or more, got %q", lines.Text())
		}
		in, err := strconv.ParseUint(fields[3], 16, 8)
		if err != nil {
			return nil, fmt.Errorf("expected a state, got %q", fields[3])
		}
		if in != state {
			continue
		}
		addr, err := parseSocket(fields[1])
		if err != nil {
			return nil, err
		}
		found = append(found, addr)
	}
	return found, lines.Err()
}

// parseSocket reads the kernel's 0100007F:1F90: 32-bit words in the machine's order, and a port.
func parseSocket(s string) (netip.AddrPort, error) {
	host, portText, ok := strings.Cut(s, ":")
	words, err := hex.DecodeString(host)
	if !ok || err != nil || (len(words) != 4 && len(words) != 16) {
		return netip.AddrPort{}, fmt.Errorf("expected ADDRESS:PORT in hexadecimal, got %q", s)
	}
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("expected a port in hexadecimal, got %q", portText)
	}
	for i := 0; i < len(words); i += 4 {
		binary.BigEndian.PutUint32(words[i:], binary.NativeEndian.Uint32(words[i:]))
	}
	addr, _ := netip.AddrFromSlice(words) // 4 or 16 bytes, as checked
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}
