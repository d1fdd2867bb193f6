// Package tunnel holds what the relay knows of each tunnel, and finds the one that a request is for.
//
// It does not read configuration (package config makes Tunnels), decide who may call (package policy), or know which
// agents are connected (package registry).
package tunnel

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

// A Tunnel is one entry of `tunnels` in relay.yaml. Nobody changes it, or what it points to, once it is in a Table.
type Tunnel struct {
	// Name joins the relay's half of the tunnel with the agent's. Key `name`, required, [a-z0-9-]{1,63}.
	Name protocol.TunnelName
	// Network is what a call carries. Key `protocol`, required: http, tcp or udp.
	Network protocol.Network
	// Hosts are the names by which callers reach the tunnel: the Host of a request, the target of a CONNECT without
	// its port. Key `hosts`, required, at least one; no patterns.
	Hosts []Host
	// PathPrefix narrows an http tunnel to the paths below it, by segment; the longest one that fits wins. Key `path`,
	// default "" (all of the host).
	PathPrefix Prefix
	// Agents may serve the tunnel. Key `agents`, required, at least one SPIFFE ID pattern.
	Agents certs.Patterns
	// Callers may call it. Key `callers`, required: SPIFFE ID patterns, or the word any.
	Callers certs.Patterns
	// AnyCaller is the word any: a caller with whatever trusted SVID, or without one, gets as far as the token.
	AnyCaller bool
	// Authenticate is what must be proved beyond that. Key `authenticate`, or `token`, which stands for a single token; one of
	// them is required. nil is `token: none`: nothing is looked at.
	Authenticate *Require
	// Allow is a CEL expression that must be true for the call to pass. Key `allow`, default "": nothing more is
	// asked of a call that callers, token and scopes let through.
	Allow string
	// ForwardToken passes the caller's token on to the backend. Key `forward_token`, default false.
	ForwardToken bool
	// Body is how many bytes a request body may have. Key `limits.body`, default 0: streamed without a limit.
	Body int64
	// Timeout is how long a call may take until the response header has come. Key `limits.timeout`, default 30s.
	Timeout time.Duration
	// Concurrent is how many calls may run at once through this relay. Key `limits.concurrent`, default 0: no limit
	// but the links' own.
	Concurrent int
	// AuditRequired refuses calls that cannot be recorded. Key `audit`: required, or best_effort, the default: they are
	// carried all the same, and the log and a metric say so.
	AuditRequired bool
	// Quota is how often one party may call, and Per says what a party is: caller (the default), app, user, source, or tunnel,
	// which is everybody together. Keys `limits.rate` (calls a second), `limits.burst` (default: the rate, at least 1),
	// `limits.quota` ({calls, per}: so many in each window) and `limits.per`; default: no limit. An app with a tier has that
	// tier's quota instead, over all of its tunnels.
	Quota limit.Quota
	Per   Party
	// Spike evens out the calls of everybody together. Key `limits.spike` ({rate, queue, wait}), default: it does not.
	Spike limit.Spike
	// JSON and XML bound the structure of request bodies. Where one of them is there, a body of neither form is refused. Keys
	// `limits.json` ({depth, keys, string}) and `limits.xml` ({depth, token}), default nil: bodies are not looked at.
	JSON *limit.JSON
	XML  *limit.XML
	// Sources are the networks that calls may come from. Key `sources`, default: any. What the source is, see
	// `trusted_proxies`.
	Sources []netip.Prefix
	// Listen is a door beside the relay's port. Key `listen`, default nil: none.
	Listen *Listen
}

// A Party is whose calls are counted together.
type Party string

// The parties of limits.per.
const (
	PerCaller Party = "caller"
	PerApp    Party = "app"
	PerUser   Party = "user"
	PerSource Party = "source"
	PerTunnel Party = "tunnel"
)

// Listen is where callers on the relay's own host get in, in plaintext: one of Socket and Address is set. A unix
// socket's file mode keeps others out; a loopback address keeps out only other hosts.
type Listen struct {
	Socket  string         // key `socket`: the path of a unix socket
	Address netip.AddrPort // key `address`: a loopback address and port, for callers that cannot use unix sockets
	As      certs.ID       // key `as`, required: the SPIFFE ID that whoever connects acts as; callers must let it in
}

// Admits reports whether a rule of the tunnel could let in some identity of td. To a caller of any other trust domain
// the tunnel does not exist.
func (t *Tunnel) Admits(td certs.TrustDomain) bool {
	return t.AnyCaller || t.Callers.NamesTrustDomain(td)
}

// Covers reports whether a decoded path of a request to one of the tunnel's hosts is the tunnel's. Other networks than
// http know no paths: theirs always is.
func (t *Tunnel) Covers(path string) bool {
	return t.Network != protocol.HTTP || t.PathPrefix.Covers(path)
}
