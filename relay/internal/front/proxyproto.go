package front

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// A PROXY protocol v2 header (haproxy's proxy-protocol.txt §2.2):
//
//	 0            12       13       14       15       16
//	+------------+--------+--------+--------+--------+----------------
//	| signature  |ver|cmd |fam|prot|     length      | addresses, TLVs
//	+------------+--------+--------+--------+--------+----------------
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = 16
	// maxProxyHeader bounds addresses and TLVs together: the longest addresses take 216 bytes, and load balancers
	// add well below 1 KiB of TLVs.
	maxProxyHeader = 4 << 10
)

var errNoProxyHeader = errors.New("expected a PROXY protocol v2 header")

// readProxyHeader reads one header from r, and not a byte beyond it. It returns the address that the proxy speaks
// for; the zero AddrPort where it speaks for itself (LOCAL, its health checks) or for a family that is no IP. TLVs
// are skipped. It blocks as r does.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var fixed [proxyFixed]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", errNoProxyHeader, err)
	}
	if string(fixed[:12]) != proxySignature {
		return netip.AddrPort{}, errNoProxyHeader
	}
	if fixed[12]>>4 != 2 {
		return netip.AddrPort{}, fmt.Errorf("PROXY protocol: expected version 2, got %d", fixed[12]>>4)
	}
	n := int(binary.BigEndian.Uint16(fixed[14:]))
	if n > maxProxyHeader {
		return netip.AddrPort{}, fmt.Errorf("PROXY protocol: expected at most %d bytes of addresses, got %d", maxProxyHeader, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, fmt.Errorf("PROXY protocol: reading addresses: %w", err)
	}
	switch command := fixed[12] & 0xF; command {
	case 0: // LOCAL
		return netip.AddrPort{}, nil
	case 1: // PROXY
		return proxySource(fixed[13], body)
	default:
		return netip.AddrPort{}, fmt.Errorf("PROXY protocol: expected command 0 or 1, got %d", command)
	}
}

// proxySource reads the source address: source and destination address, then source and destination port.
func proxySource(family byte, body []byte) (netip.AddrPort, error) {
	var size int
	switch family {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	case 0x00, 0x31: // unspecified, or a unix socket: the connection's own address holds
		return netip.AddrPort{}, nil
	default:
		return netip.AddrPort{}, fmt.Errorf("PROXY protocol: unexpected address family and transport %#x", family)
	}
	if len(body) < 2*size+4 {
		return netip.AddrPort{}, fmt.Errorf("PROXY protocol: expected %d bytes of addresses, got %d", 2*size+4, len(body))
	}
	addr, _ := netip.AddrFromSlice(body[:size])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(body[2*size:])), nil
}
