// Package relay is the half of Fairlead in the cloud: it takes calls, decides on each, and hands it to an agent.
// DESIGN.md says how its parts meet.
package relay

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/certs/standing"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/config"
	"github.com/fairlead/fairlead/relay/internal/enroll"
	"github.com/fairlead/fairlead/relay/internal/gateway"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/registry"
	"github.com/fairlead/fairlead/relay/internal/route"
)

// Config makes a Relay. Every field is required.
type Config struct {
	File    string // relay.yaml
	Version string // for people: Welcome and status carry it
	Log     *slog.Logger
}

// Faults is the error of a configuration file: everything that is wrong in it, with lines.
type Faults = config.Faults

// Relay is one relay process. Its methods are safe for concurrent use.
type Relay struct {
	cfg       Config
	log       *slog.Logger
	name      string // for people
	source    *sources.Rebased
	registry  *registry.Registry
	gateway   *gateway.Gateway
	strangers *limit.Gate
	metrics   *metrics
	bans      *bans
	carrier   *enroll.Carrier
	grants    *grant.Signer
	memory    memory
	audit     *audit.Log       // nil where the configuration names none; set by Run before anybody connects
	links     *standing.Keeper // of agents
	linked    sync.Map         // of *agentLink: those that have registered
	callers   *standing.Keeper // of callers' connections

	current   atomic.Pointer[rules]
	stops     context.Context // ends when the relay begins to stop; set by Run before anybody connects
	listening atomic.Bool
	stopping  atomic.Bool
	udp       atomic.Pointer[Buffers] // of the port, once it is open

	serverLeaf atomic.Pointer[x509.Certificate] // of server_certificate, as it was read last

	// reloading serialises reloads and guards: the fields below.
	reloading sync.Mutex
	digest    [32]byte        // of the file as it was last read, good or not
	life      context.Context // of rules; set by Run
	doors     map[door]context.CancelFunc
	running   sync.WaitGroup // rules, doors and lanes
}

// Check reads a configuration and everything that it names exactly as New does, and returns what is wrong. It blocks as New
// does.
func Check(ctx context.Context, file string) error {
	_, err := load(ctx, file, nil, slog.New(slog.DiscardHandler))
	return err
}

// New reads the configuration. It opens no socket; Run does. Where the identity comes from the Workload API it waits for
// that until ctx ends.
func New(ctx context.Context, cfg Config) (*Relay, error) {
	digest, err := digestOf(cfg.File)
	if err != nil {
		return nil, err
	}
	r := &Relay{cfg: cfg, log: cfg.Log, digest: digest, doors: map[door]context.CancelFunc{}}
	first, err := load(ctx, cfg.File, r.dial, cfg.Log)
	if err != nil {
		return nil, err
	}
	r.source = sources.NewRebased(first.source)
	if r.name, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("finding the relay's name: %w", err)
	}
	if r.bans, err = newBans(first.file.StateDir); err != nil {
		return nil, err
	}
	r.carrier = enroll.New(r.askAuthority, cfg.Log)
	if r.grants, err = grant.NewSigner(r.source); err != nil {
		return nil, err
	}
	r.links, r.callers = r.newLinks(), r.newCallers()
	if err := first.decide(r.source, r.bans.Check, &r.memory); err != nil {
		return nil, err
	}
	r.current.Store(first)
	limits := first.file.Limits
	r.registry, err = registry.New(registry.Config{Owns: first.owns, Log: cfg.Log, SessionsPerAgent: limits.SessionsPerAgent})
	if err != nil {
		return nil, err
	}
	router, err := route.New(route.Config{Registry: r.registry, Log: cfg.Log, StreamsPerLink: limits.StreamsPerSession})
	if err != nil {
		return nil, err
	}
	r.metrics = newMetrics(r)
	var record func(*audit.Record) error
	if first.file.Audit.File != "" {
		record = r.record
	}
	r.gateway, err = gateway.New(gateway.Config{
		Audit: record, AuditClaims: func() []string { return r.current.Load().file.Audit.Claims },
		Tier: func(name string) (limit.Quota, bool) {
			q, ok := r.current.Load().file.Tiers[name]
			return q, ok
		},
		TrustedProxies: func() int { return r.current.Load().file.TrustedProxies },
		Gate:           func() gateway.Gate { return r.current.Load().gate }, Router: router, Grants: r.grants, Proof: proof, Observe: r.metrics.observe, Log: cfg.Log,
		Limits: callLimits(limits),
	})
	if err != nil {
		return nil, err
	}
	r.strangers = limit.New(limit.Config{Unproved: limits.Unproved, UnprovedPerSource: limits.UnprovedPerSource,
		FailuresPerSecond: limits.FailedHandshakes.PerSecond, FailureBurst: limits.FailedHandshakes.Burst})
	return r, nil
}

// dial carries a call of the relay's own to a tunnel.
func (r *Relay) dial(ctx context.Context, network protocol.Network, tunnel protocol.TunnelName) (net.Conn, error) {
	return r.gateway.Dial(ctx, network, tunnel, r.source.ID())
}

// callLimits are the gateway's, in whose Limits zero is a default.
func callLimits(l config.Limits) gateway.Limits {
	rate := l.MinBodyRate
	if rate == 0 {
		rate = -1 // none
	}
	return gateway.Limits{HeaderFieldBytes: l.HeaderFieldBytes, HeaderCount: l.HeaderCount, MinBodyRate: rate,
		MinBodyGrace: l.MinBodyGrace, ExchangeIdle: l.ExchangeIdleTimeout}
}

// agentStreams is how many streams an agent may open on a link. It has use for one, the control stream: each further
// one is a window that it could fill before it is refused.
const agentStreams = 8

// linkConfig bounds what agents may make the relay hold. How many calls a link gets is package route's to bound.
func (r *Relay) linkConfig(file *config.Relay) link.Config {
	return link.Config{MaxStreams: agentStreams, Budget: file.Limits.SessionBuffer, StreamLimitCode: uint16(protocol.StreamLimit)}
}
