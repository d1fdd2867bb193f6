package backend

import (
	"net/netip"
	"strings"
)

// The metadata services of clouds answer whoever can reach them with credentials of the machine.
var metadataAddrs = map[netip.Addr]bool{
	netip.MustParseAddr("169.254.169.254"): true, // AWS, Azure, Google, Oracle and others; link-local anyway
	netip.MustParseAddr("fd00:ec2::254"):   true, // AWS
	netip.MustParseAddr("fd00:ec2::23"):    true, // AWS, pod identity
	netip.MustParseAddr("fd20:ce::254"):    true, // Google
	netip.MustParseAddr("100.100.100.200"): true, // Alibaba
	netip.MustParseAddr("168.63.129.16"):   true, // Azure's wire server
	netip.MustParseAddr("192.0.0.192"):     true, // Oracle, classic
}

func metadataName(name string) bool {
	switch name {
	case "metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal":
		return true
	}
	return strings.HasSuffix(name, ".metadata.google.internal")
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // Linux takes all of it for "this host"
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// embeddings are IPv6 prefixes with an IPv4 address inside, and the byte at which it begins: a gateway may carry such
// a packet to it.
var embeddings = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/96"), 12},  // NAT64, local use
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// RefusedAddr says why no backend may have this address, or nothing where one may: cloud metadata, link-local,
// multicast, broadcast and unspecified addresses are refused always, also inside an IPv6 address. Loopback is the
// agent's own host and is allowed.
func RefusedAddr(ip netip.Addr) string {
	ip = ip.WithZone("").Unmap()
	switch {
	case !ip.IsValid():
		return "no address"
	case metadataAddrs[ip]:
		return "an address of cloud metadata"
	case ip.IsUnspecified() || thisNetwork.Contains(ip):
		return "an unspecified address"
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	case ip.IsMulticast() || ip == broadcast:
		return "a multicast address"
	case ip == netip.IPv6Loopback():
		return ""
	}
	for _, e := range embeddings {
		if e.prefix.Contains(ip) {
			b := ip.As16()
			return RefusedAddr(netip.AddrFrom4([4]byte(b[e.at:])))
		}
	}
	return ""
}
