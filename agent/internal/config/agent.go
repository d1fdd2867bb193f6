package config

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

// Agent is one agent.yaml, checked. It is never changed after Load. Every path is absolute.
//
// The keys, with their defaults:
type Agent struct {
	// Name is `name`: what the agent calls itself towards relays, 1 to 63 of a-z, 0-9, '-' and '.'. Default: the host
	// name in lower case.
	Name string
	// Relays are `relays`: host:port of each relay to dial. Required.
	Relays []string
	// RelayID is `relay_id`: the SPIFFE IDs of relays that may hand calls to this agent. Required.
	RelayID certs.Patterns
	// Transport is `transport`: auto, quic or tcp. Default: auto.
	Transport Transport
	// Congestion is `congestion`: the congestion control that TCP sockets to relays ask for: bbr, the system's own, or
	// auto: bbr where the path is long. What the kernel does not offer stays away silently; `status` shows what is in
	// force. Default: auto.
	Congestion socket.Congestion
	// Proxy is `proxy`: the way out to the relays. Default: nil, which means HTTPS_PROXY and NO_PROXY decide.
	Proxy *Proxy
	// Ops is `ops`: the loopback address of /livez, /readyz and /metrics. Default: none.
	Ops netip.AddrPort
	// Control is `control`: the path of the control socket. Default: none.
	Control string
	// StateDir is `state_dir`: where the agent keeps what must outlive it. Default: none.
	StateDir string
	// Identity is `identity`: who the agent is. Required.
	Identity Identity
	// Trust is `trust`: for each trust domain where its bundle comes from. Required for every trust domain that
	// relay_id names, unless the Workload API or the enrolment brings it along.
	//
	// It is a PEM file (`bundle`), or a SPIFFE bundle endpoint (`endpoint`, an https URL) with its `profile`: https_web, by
	// the system's roots or those in the file `ca`, or https_spiffe, by its `endpoint_id` and a `bundle` to begin with. What
	// an endpoint says is kept in state_dir, where there is one.
	Trust map[certs.TrustDomain]sources.Bundle
	// RequirePQ is `require_pq`: links to relays must have a post-quantum key agreement. Default: false; it is what is
	// agreed on where the relay can.
	RequirePQ bool
	// Tokens are `tokens`: the issuers whose tokens count at tunnels that want the caller's own token, each with `issuer`,
	// `audiences` (both required), `jwks` (a file or an https URL; default: OIDC discovery at the issuer) and `algorithms`.
	// Default: none.
	Tokens []bearer.Issuer
	// Audit is `audit`: where decisions are recorded. Default: nowhere.
	Audit Audit
	// JWKSFile is `jwks_file`: where the key of transaction tokens is written as a JWK set, for backends that read keys rather than
	// the tokens' chains. Default: nowhere.
	JWKSFile string
	// Limits are `limits`.
	Limits Limits
	// Tunnels are `tunnels`: what the agent serves, and nothing else. At least one.
	Tunnels []Tunnel
}

// Audit says how decisions are recorded.
type Audit struct {
	// File is `audit.file`: JSON lines. Required. Files that are full stand beside it, named by their first line's number.
	File string
	// Rotate is `audit.rotate`: the size at which the next file begins. Default: 100MiB.
	Rotate int64
	// Keep is `audit.keep`: how many full files stay. Default: 0, which is all.
	Keep int
}

// Transport is how links to relays are made.
type Transport string

// The transports.
const (
	TransportAuto Transport = "auto" // TCP and QUIC, whichever works
	TransportQUIC Transport = "quic"
	TransportTCP  Transport = "tcp"
)

// Proxy is an HTTP (CONNECT) or SOCKS5 proxy on the way to the relays.
type Proxy struct {
	// URL is `proxy.url`: http://host:port or socks5://host:port. Required.
	URL string
	// User is `proxy.user`. Default: no authentication.
	User string
	// PasswordFile is `proxy.password_file`: a secret file. Required with user.
	PasswordFile string
}

// Identity says where the agent's SVID comes from: exactly one of three.
type Identity struct {
	// Cert and Key are `identity.svid.cert` and `identity.svid.key`: PEM files; the key is a secret file.
	Cert, Key string
	// WorkloadAPI is `identity.workload_api`: the address of the SPIFFE Workload API, unix:///path, on Windows
	// npipe:name.
	WorkloadAPI string
	// Enrolled is `identity.enrolled`: the folder that `fairlead-agent enroll` has filled, in which the SVID is renewed.
	Enrolled string
}

// Limits bound what relays can make the agent hold.
type Limits struct {
	// Lanes is `limits.lanes`: the most lanes to one address of a relay, 0 to 64. Default: 64.
	Lanes int
	// Streams is `limits.streams`: calls at one time on one link. Default: 2000.
	Streams int
	// StreamWindow is `limits.stream_window`: what one stream may hold unread, in bytes. Default: 16MiB.
	StreamWindow int
	// LinkBuffer is `limits.link_buffer`: what all streams of a link may hold unread together. Default: 64MiB.
	LinkBuffer int
	// Header is `limits.header`: the largest request header block. Default: 64KiB, since the relay adds its own to
	// the 32KiB that it takes from callers.
	Header int
	// OpenTimeout is `limits.open_timeout`: how long a new stream may take to say what it is for. Default: 10s.
	OpenTimeout time.Duration
	// Handshake is `limits.handshake`: how long a TLS or QUIC handshake with a relay may take. Default: 5s.
	Handshake time.Duration
}

func defaultLimits() Limits {
	return Limits{
		Lanes: 64, Streams: 2000, StreamWindow: 16 << 20, LinkBuffer: 64 << 20, Header: 64 << 10,
		OpenTimeout: 10 * time.Second, Handshake: 5 * time.Second,
	}
}
