package config

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// Relay is a relay.yaml that has been checked. Paths in it are absolute; in the file they are relative to the file.
// Durations are written as 10s or 5m, sizes as 512, 32KiB, 10MiB or 1GiB.
type Relay struct {
	// Listen is the one port for agents and callers, TCP and UDP. Key `listen`, required.
	Listen netip.AddrPort
	// ProxyProtocol are the addresses whose PROXY v2 header is believed. Key `proxy_protocol.from`, default none.
	ProxyProtocol []netip.Prefix
	// Ops serves health and metrics. Key `ops`, default 127.0.0.1:9090.
	Ops netip.AddrPort
	// Control is the unix socket (on Windows too) for commands of the relay's own user. Key `control`,
	// default /run/fairlead/relay.sock, on Windows C:\ProgramData\Fairlead\relay.sock.
	Control string
	// StateDir keeps what must outlive the process. Key `state_dir`, default /var/lib/fairlead, on Windows
	// C:\ProgramData\Fairlead.
	StateDir string
	// Identity is the relay's own X.509-SVID. Key `identity.svid`, required.
	Identity KeyPair
	// ServerCertificate is shown to callers. Key `server_certificate`, default nil: they see the SVID, and its DNS
	// names must be theirs to check.
	ServerCertificate *KeyPair
	// Trust says where the bundle of each trust domain is: a PEM file. Key `trust.<trust domain>.bundle`, at least one.
	Trust map[certs.TrustDomain]string
	// Tokens are the issuers whose tokens count, each with `issuer` (required), `audiences` (required), `jwks` (a file
	// or URL; default: OIDC discovery at the issuer) and `algorithms` (default: all that the relay knows). Key
	// `tokens`, default none.
	Tokens []bearer.Issuer
	// DrainTimeout is how long running calls may go on when the relay stops. Key `drain_timeout`, default 60s.
	DrainTimeout time.Duration
	// Limits is what the relay puts up with. Key `limits`, every one of them with a default.
	Limits Limits
	// Tunnels are what agents may serve and callers call; tunnel.Tunnel says which key does what. Key `tunnels`,
	// default none.
	Tunnels []*tunnel.Tunnel

	file  string
	lines map[string]int // of every key and entry, by path
}

// A KeyPair is the PEM file of a certificate chain, key `cert`, and that of its private key, key `key`, which nobody
// but the relay's user may read.
type KeyPair struct{ Cert, Key string }

// Fault makes a fault of something that was found wrong after Load, at the line of path: a path such as
// tunnels[0].allow that is in the file, or line 0.
func (r *Relay) Fault(path, message string) Fault {
	return Fault{File: r.file, Line: r.lines[path], Path: path, Message: message}
}
