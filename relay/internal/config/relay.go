package config

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/protocol/link/socket"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// Relay is a relay.yaml that has been checked. Paths in it are absolute; in the file they are relative to the file.
// Durations are written as 10s or 5m, sizes as 512, 32KiB, 10MiB or 1GiB.
type Relay struct {
	// Listen is the one port for agents and callers, TCP and UDP. Key `listen`, required.
	Listen netip.AddrPort
	// ProxyProtocol are the addresses whose PROXY v2 header is believed. Key `proxy_protocol.from`, default none.
	ProxyProtocol []netip.Prefix
	// Congestion is the congestion control that TCP connections of agents and callers ask for: bbr, the system's own, or
	// auto: bbr where the path is long. Key `congestion`, default auto.
	Congestion socket.Congestion
	// Ops serves health and metrics. Key `ops`, default 127.0.0.1:9090.
	Ops netip.AddrPort
	// Control is the unix socket (on Windows too) for commands of the relay's own user. Key `control`,
	// default /run/fairlead/relay.sock, on Windows C:\ProgramData\Fairlead\relay.sock.
	Control string
	// StateDir keeps what must outlive the process. Key `state_dir`, default /var/lib/fairlead, on Windows
	// C:\ProgramData\Fairlead.
	StateDir string
	// Identity is where the relay's own X.509-SVID comes from. Key `identity`, required.
	Identity Identity
	// ServerCertificate is shown to callers. Key `server_certificate`, default nil: they see the SVID, and its DNS
	// names must be theirs to check.
	ServerCertificate *KeyPair
	// Authority is the built-in authority behind this relay. Key `authority`, default none.
	Authority Authority
	// Trust says where the bundle of each trust domain comes from. Key `trust.<trust domain>`, at least one; with the
	// Workload API or an enrolment, which bring bundles along, only for what they do not bring. It is a PEM file (`bundle`), or a SPIFFE
	// bundle endpoint (`endpoint`, an https URL) with its `profile`: https_web, by the system's roots or those in the file
	// `ca`, or https_spiffe, by its `endpoint_id` and a `bundle` to begin with. What an endpoint says is kept in state_dir.
	Trust map[certs.TrustDomain]sources.Bundle
	// RequirePQ refuses agents and callers without a post-quantum key agreement. Key `require_pq`, default false: it is
	// what is agreed on where the peer can.
	RequirePQ bool
	// Tokens are the issuers whose tokens count, each with `issuer` (required; spiffe://<trust domain> for JWT-SVIDs),
	// `audiences` (required), `jwks` (a file or URL; default: OIDC discovery at the issuer; for JWT-SVIDs the file of a
	// SPIFFE bundle, default: what the Workload API says) and `algorithms` (default: all that the relay knows). Tokens of an issuer with `introspection` are opaque, and it is asked
	// about them there: `url`, `client_id`, `secret_file` (all required), `ca` (PEM; default: the system's roots) and `cache`, how long
	// an answer may be used again (default 30s). Key
	// `tokens`, default none.
	Tokens []bearer.Issuer
	// Audit is where decisions are recorded. Key `audit`, default none.
	Audit Audit
	// Apps are clients that prove themselves by a secret; authn.App says which key does what. Key `apps`, default none.
	Apps authn.Apps
	// Directories judge users' names and passwords; login.DirectoryConfig says which key does what. Key `directories`, default none.
	Directories []login.DirectoryConfig
	// RADIUS are servers that judge second factors; login.RADIUSConfig says which key does what. Key `radius`, default none.
	RADIUS []login.RADIUSConfig
	// TOTP is the secret file with users' secrets for second factors: a line `user base32` each, as `fairlead-relay totp` prints
	// it. Key `totp`, default none.
	TOTP string
	// Tiers are the quotas of apps, by name, each with `rate`, `burst` and `quota` as in a tunnel's limits. Key `tiers`, default
	// none.
	Tiers map[string]limit.Quota
	// TrustedProxies is how many proxies stand between callers and the relay that append the address they were called from to
	// X-Forwarded-For: a call's source is the last entry but so many. It is for proxies that pass TLS on, and calls that come with
	// fewer entries have the connection's own address. Key `trusted_proxies`, default 0: X-Forwarded-For is not believed.
	TrustedProxies int
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

// Authority says how the built-in authority is reached: by its socket, or by a relay that has one.
type Authority struct {
	// Socket is `authority.socket`: what `fairlead-relay authority serve` listens on.
	Socket string
	// Relay is `authority.relay`: host:port of another relay. It takes an enrolled identity.
	Relay string
	// BundleHost is `authority.bundle_host`: requests for this host get the trust domain's bundle, for others to federate
	// with. It takes a socket. Default: the bundle is not served.
	BundleHost string
}

// Audit says how decisions are recorded.
type Audit struct {
	// File is `audit.file`, required: JSON lines. Files that are full stand beside it, named by their first line's number.
	File string
	// Rotate is `audit.rotate`: the size at which the next file begins. Default: 100MiB.
	Rotate int64
	// Keep is `audit.keep`: how many full files stay. Default 0: all.
	Keep int
	// Claims are `audit.claims`: claims of tokens that are recorded, beside sub, iss and scope. Default: none.
	Claims []string
}

// Identity is exactly one of three.
type Identity struct {
	// KeyPair is `identity.svid`: PEM files.
	KeyPair
	// WorkloadAPI is `identity.workload_api`: the address of the SPIFFE Workload API, unix:///path, on Windows
	// npipe:name.
	WorkloadAPI string
	// Enrolled is `identity.enrolled`: the folder that `fairlead-relay authority enroll` has filled, in which the SVID is
	// renewed.
	Enrolled string
}

// A KeyPair is the PEM file of a certificate chain, key `cert`, and that of its private key, key `key`, which nobody
// but the relay's user may read.
type KeyPair struct{ Cert, Key string }

// Fault makes a fault of something that was found wrong after Load, at the line of path: a path such as
// tunnels[0].allow that is in the file, or line 0.
func (r *Relay) Fault(path, message string) Fault {
	return Fault{File: r.file, Line: r.lines[path], Path: path, Message: message}
}
