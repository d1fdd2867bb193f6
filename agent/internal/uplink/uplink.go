// Package uplink keeps the agent's links to its relays: it resolves their names, dials every address over TCP and
// QUIC, directly or through a proxy, says hello, and hands the streams that the relays open to the dispatcher.
//
// It does not judge calls, and opens no listener.
package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/certs/standing"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

// Transport says which transports are dialled.
type Transport string

// The transports. Auto dials both: the relay sends calls over TCP while it lives, and over QUIC where it does not.
const (
	Auto Transport = "auto"
	QUIC Transport = "quic"
	TCP  Transport = "tcp"
)

// Config says whom to dial and what to say. Every field is required unless it says otherwise.
type Config struct {
	Relays    []string // host:port
	RelayID   certs.Patterns
	Source    certs.Source
	RequirePQ bool                                // refuse relays without a post-quantum key agreement
	Banned    func(certs.Identity) *authority.Ban // of relays; nil: none is known
	Changed   func()                              // a relay says that its authority's state has changed; nil: nobody wants to know
	Transport Transport
	Dial      DialTCP // how TCP gets out: Direct, or through a proxy
	ByName    bool    // leave the relays' names to the proxy behind Dial, which then is the only way out: no QUIC

	Lanes      int               // most lanes a relay address; zero: none, and every stream takes the yamux link
	Congestion socket.Congestion // of TCP; zero: socket.Auto

	Resolve Resolve // nil: the system's resolver

	Hello     func() *protocol.Hello          // a fresh one for each link; Slot is filled in here
	Down      func() []*protocol.TunnelStatus // what a new link must be told: the tunnels whose backend is down
	Serve     func(context.Context, link.Stream, link.Info)
	Slots     *atomic.Uint32 // numbers links for the life of the process, over all of its Uplinks
	Link      link.Config    // zero: defaults
	Control   control.Config // zero: defaults
	Handshake time.Duration  // for name, connection, proxy and TLS or QUIC handshake together; zero: 10 s
	Drain     time.Duration  // how long running streams may take to end when Run is told to stop
	Log       *slog.Logger
}

// Uplink holds the links. Its methods are safe for concurrent use.
type Uplink struct {
	cfg    Config
	keeper *standing.Keeper // of what relays have proved
	grants *grant.Keyring

	mu    sync.Mutex // guards: ends
	ends  []*end
	first chan struct{} // closed when a link stands for the first time
	once  sync.Once
	udp   sync.Once // for what is said of UDP sockets
}

// Resolve returns the addresses behind a relay's host:port, each as ip:port and once.
type Resolve func(ctx context.Context, relay string) ([]string, error)

// New checks nothing; the configuration was checked where it was read.
func New(cfg Config) *Uplink {
	if cfg.Handshake == 0 {
		cfg.Handshake = dialTimeout
	}
	if cfg.Congestion == "" {
		cfg.Congestion = socket.Auto
	}
	if cfg.Resolve == nil {
		cfg.Resolve = resolve
	}
	u := &Uplink{cfg: cfg, first: make(chan struct{})}
	u.keeper = u.newKeeper()
	u.grants = grant.NewKeyring(grant.Config{Source: cfg.Source, Authorize: u.authorizeRelay})
	return u
}

// FirstLink is closed when a link stands for the first time.
func (u *Uplink) FirstLink() <-chan struct{} { return u.first }

// Up counts the links that stand now.
func (u *Uplink) Up() int {
	n := 0
	for _, s := range u.Status() {
		if s.Up {
			n++
		}
	}
	return n
}

// Status tells of every link, standing or not, by relay, address and transport.
func (u *Uplink) Status() []Status {
	ends := u.all()
	all := make([]Status, 0, len(ends))
	for _, e := range ends {
		all = append(all, e.snapshot())
	}
	judge(all)
	slices.SortFunc(all, func(a, b Status) int {
		return strings.Compare(a.Relay+a.Address+a.Transport, b.Relay+b.Address+b.Transport)
	})
	return all
}

// Announce sends a tunnel's status on every standing link. A link that cannot take it is ending anyway.
func (u *Uplink) Announce(s *protocol.TunnelStatus) {
	for _, e := range u.all() {
		e.announce(s)
	}
}

// Run keeps the links until ctx ends, then drains them: the relays are told to open no more streams, and those that
// run have Config.Drain to end. When it returns, every link is closed.
func (u *Uplink) Run(ctx context.Context) {
	judging, stop := context.WithCancel(context.WithoutCancel(ctx)) // links are judged while they drain, too
	var keeper sync.WaitGroup
	keeper.Go(func() { u.keeper.Run(judging) })
	defer keeper.Wait()
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { u.measure(ctx) })
	for _, relay := range u.cfg.Relays {
		wg.Go(func() { u.keepRelay(ctx, relay) })
	}
	wg.Wait()
}

const (
	resolveEvery   = 30 * time.Second
	resolveTimeout = 5 * time.Second
)

// keepRelay keeps links to every address behind one relay's name. An address that leaves the name is let go once its
// link has ended: a name server's hiccup must not end a link that stands.
func (u *Uplink) keepRelay(ctx context.Context, relay string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	kept, demands := map[string]*end{}, map[string]*demand{}
	keep := func(address, transport string) {
		key := transport + " " + address
		if _, there := kept[key]; there {
			return
		}
		if demands[address] == nil {
			demands[address] = newDemand()
		}
		ctx, stop := context.WithCancel(ctx)
		e := u.newEnd(relay, address, transport, demands[address], stop)
		kept[key] = e
		u.add(e)
		wg.Go(func() {
			defer stop()
			e.keep(ctx)
			u.remove(e)
		})
	}
	if u.cfg.ByName {
		keep(relay, "tcp")
		if u.cfg.Lanes > 0 {
			keep(relay, laneTransport)
		}
		return
	}
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	failing := false
	for {
		addrs, err := u.cfg.Resolve(ctx, relay)
		if err != nil && ctx.Err() == nil {
			if !failing {
				u.cfg.Log.Warn("relay name does not resolve", "relay", relay, "error", err)
			}
			failing = true
		} else if err == nil {
			failing = false
			wanted := map[string]bool{}
			for _, a := range addrs {
				for _, transport := range u.transports() {
					wanted[transport+" "+a] = true
					keep(a, transport)
				}
			}
			for key, e := range kept {
				e.wanted.Store(wanted[key])
				if !wanted[key] && !e.up() {
					e.stop()
					delete(kept, key)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// laneTransport is the end that keeps an address's lanes.
const laneTransport = "lane"

func (u *Uplink) transports() []string {
	var all []string
	if u.cfg.Transport != QUIC {
		all = append(all, "tcp")
		if u.cfg.Lanes > 0 {
			all = append(all, laneTransport)
		}
	}
	if u.cfg.Transport != TCP {
		all = append(all, "quic")
	}
	return all
}

func (u *Uplink) all() []*end {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.ends)
}

func (u *Uplink) add(e *end) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ends = append(u.ends, e)
}

func (u *Uplink) remove(e *end) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ends = slices.DeleteFunc(u.ends, func(x *end) bool { return x == e })
}

// resolve asks the system.
func resolve(ctx context.Context, relay string) ([]string, error) {
	host, port, err := net.SplitHostPort(relay)
	if err != nil {
		return nil, fmt.Errorf("relay %q: expected host:port: %w", relay, err)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(ip.String(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, ip := range ips {
		addrs = append(addrs, net.JoinHostPort(ip.Unmap().String(), port))
	}
	slices.Sort(addrs)
	return slices.Compact(addrs), nil
}
