package config

import (
	"time"

	"github.com/fairlead/fairlead/agent/internal/backend"
	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

// Tunnel is one entry of `tunnels`.
type Tunnel struct {
	// Name is `name`: the tunnel's name on both sides, 1 to 63 of a-z, 0-9 and '-'. Required, once.
	Name protocol.TunnelName
	// Backend is `backend`: an http, https, h2c, tcp, tls or unix URL. Required.
	Backend backend.Address
	// Health is `health`: how the agent finds out whether the backend answers. Default: it does not.
	Health Health
	// Allow is `allow`: what may be asked of an HTTP backend. Default: anything.
	Allow Allow
	// Callers are `callers`: SPIFFE IDs that may call, whatever the relay says. Default: whoever the relay admits.
	Callers certs.Patterns
	// Token is `token`: what the caller's own token must be, which the agent verifies itself, by `tokens`: `issuer`, to the
	// letter, and `scopes`. Default: the relay's word for who calls is enough.
	Token *guard.TokenRule
	// Identify is `identify`: what the backend is told of who calls, beside Fairlead-Call-Id, Fairlead-Tunnel and Fairlead-Caller.
	Identify Identify
	// AuditRequired is `audit`: required, which refuses calls that cannot be recorded, or best_effort, the default.
	AuditRequired bool
	// TLS is `tls`: for https and tls backends. Default: the system's roots, no client certificate.
	TLS backend.TLSFiles
	// Timeouts are `timeouts`.
	Timeouts Timeouts
}

// Rules returns what the tunnel allows.
func (t *Tunnel) Rules() *guard.Rules {
	networks := t.Backend.Networks()
	if t.Allow.restricts() {
		// Raw bytes over a unix socket would pass by the rules.
		networks = []protocol.Network{protocol.HTTP}
	}
	return &guard.Rules{
		Tunnel: t.Name, Networks: networks, Callers: t.Callers, Token: t.Token, Methods: t.Allow.Methods, Paths: t.Allow.Paths,
	}
}

// Identify says how a backend is told who calls.
type Identify struct {
	// TxnToken is `identify.txn_token`: an HTTP backend gets a transaction token (draft-ietf-oauth-transaction-tokens), signed by
	// the agent's SVID, in Txn-Token. Its `audience` is required: the trust domain that takes it. Default: none.
	TxnToken string
	// Headers is `identify.headers`: an HTTP backend gets Fairlead-App, -User, -User-Issuer, -Scopes and -Groups. Every byte of them
	// beyond visible ASCII, and "%", is written as %XX. Default: false.
	Headers bool
	// ProxyProtocol is `identify.proxy_protocol`: a tcp or tls backend gets a PROXY protocol header of version 2 before all
	// else, with the caller's address, its SPIFFE ID in the TLV 0xE0, its user in 0xE1, and the call's id in 0x05 (UNIQUE_ID).
	// Default: false.
	ProxyProtocol bool
}

// Health is how a backend is checked.
type Health struct {
	// Path is `health.path`: what to GET; 2xx and 3xx are well. Default: the connection alone is checked.
	Path string
	// Every is `health.every`: the time between checks. Default: 10s where `health` is there, else none.
	Every time.Duration
}

// Allow restricts HTTP calls.
type Allow struct {
	// Methods are `allow.methods`, in capitals. Default: any.
	Methods []string
	// Paths are `allow.paths`: "*" is one segment, "**" (last only) one or more. Default: any. Where there are some,
	// paths that can be read in two ways are refused.
	Paths []guard.PathPattern
}

func (a Allow) restricts() bool { return len(a.Methods) > 0 || len(a.Paths) > 0 }

// Timeouts of one tunnel.
type Timeouts struct {
	// Dial is `timeouts.dial`: name resolution, connecting and TLS together. Default: 5s.
	Dial time.Duration
	// Header is `timeouts.header`: from the request's end to the response's header; "none" for no limit. Default: 30s.
	// Here none is negative.
	Header time.Duration
	// Idle is `timeouts.idle`: how long a plain HTTP exchange may stand still. WebSocket, server-sent events, gRPC and
	// TCP have no such limit. Default: 5m.
	Idle time.Duration
}

func defaultTimeouts() Timeouts {
	return Timeouts{Dial: backend.DefaultDialTimeout, Header: backend.DefaultHeaderTimeout, Idle: 5 * time.Minute}
}
