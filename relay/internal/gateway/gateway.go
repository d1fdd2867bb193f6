// Package gateway answers callers: it has each call decided, carries it to an agent, and says what went wrong in the
// words of design §5. It is the http.Handler of the relay's port, and of the doors beside it.
//
// It does not decide (package policy), choose agents (package route) or own a socket (package front).
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/route"
)

// Gate decides; *policy.Gate is one.
type Gate interface {
	Decide(ctx context.Context, r *policy.Request) (*policy.Decision, error)
	Again(p authn.Principal, r *policy.Request, now time.Time) (*policy.Decision, error)
}

// Proof is what the connection of a request has shown.
type Proof struct {
	Peer   *authn.Peer
	Source netip.AddrPort
	Curve  tls.CurveID // its key agreement
	Proved func()      // the connection no longer counts as a stranger's; may be called often
}

// Record is one call that has ended, for the metrics.
type Record struct {
	Tunnel   protocol.TunnelName // "" where the caller may not know of one
	Network  protocol.Network
	Code     protocol.Code
	Duration time.Duration
}

// Config is what New needs; only Observe, Audit, AuditClaims, Tier, TrustedProxies and Limits may be left out.
type Config struct {
	Gate    func() Gate // the one in force now
	Router  *route.Router
	Grants  Signer
	Proof   func(ctx context.Context) Proof // of the connection that a request's context belongs to
	Observe func(Record)                    // called once a call, when it has ended; must not block
	// Audit records decisions, and how what was let through ended; nil: nothing is recorded. AuditClaims names the claims of
	// tokens that are recorded; nil: none.
	Audit       func(*audit.Record) error
	AuditClaims func() []string
	// Tier finds the quota of a tier; nil: there is none. TrustedProxies is how many proxies' X-Forwarded-For is believed; nil: none.
	Tier           func(name string) (limit.Quota, bool)
	TrustedProxies func() int
	Log            *slog.Logger
	Limits         Limits
}

// Limits bound one request, whoever sends it. The zero value of each field means its default.
type Limits struct {
	HeaderFieldBytes int           // name and value of one field, and the request's target; default 8 KiB
	HeaderCount      int           // fields, a repeated one each time; default 100
	MinBodyRate      int           // bytes a second of a body whose length was announced; default 1 KiB, negative: none
	MinBodyGrace     time.Duration // before that rate is looked at; default 10 s
	ExchangeIdle     time.Duration // for which a plain exchange may stand still; default 5 min
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.HeaderFieldBytes, 8<<10)
	def(&l.HeaderCount, 100)
	def(&l.MinBodyRate, 1<<10)
	if l.MinBodyGrace == 0 {
		l.MinBodyGrace = 10 * time.Second
	}
	if l.ExchangeIdle == 0 {
		l.ExchangeIdle = 5 * time.Minute
	}
	return l
}

// Gateway is safe for concurrent use.
type Gateway struct {
	cfg      Config
	log      *slog.Logger
	proxyLog *log.Logger
	running  counts
	calls    *limit.Calls
	queues   limit.Queues
	grants   *grants
	draining atomic.Bool
	live     sync.Map // of *call: those that were let through and run
}

// New returns a gateway that holds nothing yet.
func New(cfg Config) (*Gateway, error) {
	if cfg.Gate == nil || cfg.Router == nil || cfg.Grants == nil || cfg.Proof == nil || cfg.Log == nil {
		return nil, errors.New("gateway: expected Gate, Router, Grants, Proof and Log to be set")
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Record) {}
	}
	if cfg.Tier == nil {
		cfg.Tier = func(string) (limit.Quota, bool) { return limit.Quota{}, false }
	}
	if cfg.TrustedProxies == nil {
		cfg.TrustedProxies = func() int { return 0 }
	}
	if cfg.AuditClaims == nil {
		cfg.AuditClaims = func() []string { return nil }
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return &Gateway{cfg: cfg, log: cfg.Log, proxyLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug), grants: newGrants(cfg.Grants), calls: limit.NewCalls(parties)}, nil
}

// Drain makes every new call fail with draining; running ones go on.
func (g *Gateway) Drain() { g.draining.Store(true) }

// ServeHTTP answers one request of the relay's port.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.serve(w, r, g.cfg.Proof(r.Context()), local{})
}

// local is the door that a request came through where that is one beside the port: its one tunnel, and whom it acts for.
type local struct {
	tunnel protocol.TunnelName
	as     certs.ID
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, proof Proof, door local) {
	c := g.begin(r.Context(), r, proof)
	defer c.finish()
	if err := g.admit(r); err != nil {
		c.refuse(w, c.recorded(err))
		return
	}
	if err := c.decide(door); err != nil {
		c.refuse(w, err)
		return
	}
	d := c.decision
	if !g.running.enter(d.Tunnel) {
		c.refuse(w, protocol.Errorf(protocol.Overloaded, "the tunnel has as many calls as it may have"))
		return
	}
	defer g.running.leave(d.Tunnel)
	var err error
	if c.grant, err = g.grants.of(d.Tunnel.Name, d.Principal, c.began); err != nil {
		c.refuse(w, err)
		return
	}
	defer c.runs()()
	if c.network != protocol.HTTP {
		c.connect(w, r)
		return
	}
	c.forward(w, r)
}

// runs lists the call among those that run, until what it returns is called.
func (c *call) runs() (ended func()) {
	c.ctx, c.cancel = context.WithCancelCause(c.ctx)
	c.gateway.live.Store(c, nil)
	if now := c.gateway.cfg.Gate(); now != c.gate { // the rules have changed since
		c.judge(now)
	}
	return func() {
		c.gateway.live.Delete(c)
		c.cancel(nil)
	}
}

// Judge looks anew at every call that runs, since the rules have changed: what would not be let through now ends.
func (g *Gateway) Judge() {
	gate := g.cfg.Gate()
	for c := range g.live.Range {
		c.(*call).judge(gate)
	}
}

func (c *call) judge(by Gate) {
	r := c.request(c.door)
	r.Tunnel = c.decision.Tunnel.Name
	if _, err := by.Again(c.decision.Principal, r, time.Now()); err != nil {
		c.revoke(protocol.AsError(err))
	}
}

// revoke ends a call that runs.
func (c *call) revoke(e *protocol.Error) {
	ended := *e
	ended.Sent = true
	c.revoked.Store(&ended)
	c.cancel(&ended)
	c.still.cutOff()
	c.gateway.log.Warn("call ended, the rules do not allow it any more", "call_id", c.id, "tunnel", string(c.decision.Tunnel.Name), "code", e.Code.String(), "error", e)
}

// admit checks what needs no decision, so that it says the same of every host.
func (g *Gateway) admit(r *http.Request) error {
	if g.draining.Load() {
		return protocol.Errorf(protocol.Draining, "the relay is going away")
	}
	if err := checkHeader(r, g.cfg.Limits); err != nil {
		return err
	}
	return checkUpgrade(r)
}

// call is one call on its way.
type call struct {
	gateway  *Gateway
	id       string
	began    time.Time
	ctx      context.Context // of the request, or of the door; once it runs, what revoke ends
	cancel   context.CancelCauseFunc
	revoked  atomic.Pointer[protocol.Error] // why the rules have ended it
	door     local
	gate     Gate          // by which it was decided
	in       *http.Request // nil for the raw bytes of a local door
	source   netip.Addr    // where it comes from; the zero Addr at a local door
	proof    Proof
	network  protocol.Network
	decision *policy.Decision
	grant    []byte
	admitted bool           // it was let through, and is recorded
	code     protocol.Code  // how it ended
	form     io.Closer      // what checks the body, where that must be ended
	status   int            // of the answer that was passed on; 0 without one
	up, down atomic.Int64   // bytes of it that were passed on
	quota    *limit.Verdict // nil where no quota was asked
	retry    time.Duration  // when it is worth to come again, where that is known
	late     atomic.Bool    // the body came too slowly
	still    stillness      // of an http call
	done     bool           // false while it may still be cut off by a panic
}

func (g *Gateway) begin(ctx context.Context, r *http.Request, proof Proof) *call {
	c := &call{gateway: g, id: newCallID(), began: time.Now(), ctx: ctx, in: r, proof: proof, network: protocol.HTTP, decision: &policy.Decision{Rule: policy.RuleRequest}}
	if r == nil || r.Method == http.MethodConnect {
		c.network = protocol.TCP
	}
	if r != nil && asksForUDP(r) {
		c.network = protocol.UDP
	}
	var forwarded []string
	if r != nil {
		forwarded = r.Header["X-Forwarded-For"]
	}
	c.source = sourceOf(proof.Source, forwarded, g.cfg.TrustedProxies())
	return c
}

// newCallID has 130 bits, so that nobody guesses another's.
func newCallID() string { return strings.ToLower(rand.Text()) }

func (c *call) request(door local) *policy.Request {
	q := &policy.Request{Network: c.network, Peer: c.proof.Peer, As: door.as, Tunnel: door.tunnel, Source: c.source, Curve: c.proof.Curve}
	if c.in == nil {
		q.Header = http.Header{}
		return q
	}
	q.Host, q.Method, q.Header, q.Scheme = c.in.Host, c.in.Method, c.in.Header, scheme(c.in)
	if c.network != protocol.HTTP {
		q.Proxy = c.network == protocol.TCP
		return q
	}
	q.Path, q.RawQuery = c.in.URL.EscapedPath(), c.in.URL.RawQuery
	return q
}

// open is the call in the words of the link.
func (c *call) open() *protocol.Open {
	o := &protocol.Open{Tunnel: c.decision.Tunnel.Name, Network: c.network, CallID: c.id, Grant: c.grant, Token: c.decision.Token,
		Timeout: c.decision.Tunnel.Timeout}
	if c.source.IsValid() {
		o.Source = netip.AddrPortFrom(c.source, c.proof.Source.Port()).String()
	}
	if c.in == nil {
		return o
	}
	o.Traceparent, o.Tracestate = traceContext(c.in.Header)
	if c.network == protocol.HTTP {
		o.Method, o.Path = c.in.Method, c.in.URL.EscapedPath()
	}
	return o
}

// finish counts the call, also when it is cut off.
func (c *call) finish() {
	if !c.done && c.code == protocol.OK {
		c.code = protocol.Canceled
	}
	c.recordEnd()
	g := c.gateway
	g.cfg.Observe(Record{Tunnel: c.tunnelName(), Network: c.network, Code: c.code, Duration: time.Since(c.began)})
}

func (c *call) tunnelName() protocol.TunnelName {
	if c.decision.Tunnel == nil {
		return ""
	}
	return c.decision.Tunnel.Name
}
