package agent

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/health"
	"github.com/fairlead/fairlead/agent/internal/uplink"
	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// generation is the links of one configuration, with the identity they are made with. A reload that concerns links
// starts the next generation and lets this one drain once the next one stands.
type generation struct {
	file    *config.Agent
	source  sources.Source
	uplink  *uplink.Uplink
	watcher *health.Watcher
	tokens  *bearer.Verifier

	stopLinks, stopWatcher context.CancelFunc // set by start; with the watcher stops what verifies tokens
}

func (a *Agent) newGeneration(l *loaded) *generation {
	g := &generation{file: l.file, source: l.source, tokens: l.tokens}
	g.watcher = a.newWatcher(g)
	g.uplink = uplink.New(uplink.Config{
		Relays: l.file.Relays, RelayID: l.file.RelayID, Source: l.source, RequirePQ: l.file.RequirePQ,
		Banned: sources.Banned(l.source), Changed: func() { sources.Refresh(l.source) }, Transport: uplink.Transport(l.file.Transport),
		Dial: l.dial, ByName: l.byName, Lanes: l.file.Limits.Lanes, Congestion: l.file.Congestion, Slots: &a.slots,
		Hello: func() *protocol.Hello { return a.hello(l.file) },
		Down:  func() []*protocol.TunnelStatus { return a.current.Load().watcher.Down() },
		Serve: func(ctx context.Context, stream link.Stream, info link.Info) {
			a.dispatcher.Serve(ctx, stream, info, g.uplink.Grant)
		},
		Link: link.Config{MaxStreams: l.file.Limits.Streams, StreamLimitCode: uint16(protocol.StreamLimit),
			MaxWindow: l.file.Limits.StreamWindow, Budget: l.file.Limits.LinkBuffer},
		Handshake: l.file.Limits.Handshake, Drain: drainTimeout, Log: a.log,
	})
	return g
}

func (a *Agent) hello(file *config.Agent) *protocol.Hello {
	h := &protocol.Hello{MinVersion: protocol.MinVersion, MaxVersion: protocol.MaxVersion, Agent: file.Name, Epoch: a.epoch,
		Software: "fairlead-agent/" + a.cfg.Version}
	for _, t := range file.Tunnels {
		h.Tunnels = append(h.Tunnels, t.Name)
		if t.Token != nil {
			h.Tokens = append(h.Tokens, t.Name)
		}
	}
	return h
}

func (a *Agent) newWatcher(g *generation) *health.Watcher {
	var targets []health.Target
	for _, t := range g.file.Tunnels {
		if t.Health.Every > 0 {
			targets = append(targets, health.Target{Tunnel: t.Name, Every: t.Health.Every,
				Probe: func(ctx context.Context) error { return a.dispatcher.Probe(ctx, t.Name) }})
		}
	}
	return health.New(targets, func(s *protocol.TunnelStatus) { a.current.Load().uplink.Announce(s) }, a.log)
}

// start runs g until it is stopped or the agent stops, and returns at once.
func (a *Agent) start(g *generation) {
	links, stopLinks := context.WithCancel(a.life)
	watch, stopWatcher := context.WithCancel(a.life)
	g.stopLinks, g.stopWatcher = stopLinks, stopWatcher
	a.running.Go(func() { g.uplink.Run(links) })
	a.running.Go(func() { _ = g.source.Run(links) }) // returns nil
	a.running.Go(func() { certs.WatchExpiry(links, g.source, a.log) })
	a.running.Go(func() { g.watcher.Run(watch) })
	a.running.Go(func() { _ = g.tokens.Run(watch) }) // returns nil
	a.followKeys(watch, g)
}

// followKeys keeps the file with the key of transaction tokens, where there is one, until ctx ends.
func (a *Agent) followKeys(ctx context.Context, g *generation) {
	if file := g.file.JWKSFile; file != "" {
		a.running.Go(func() { a.keepJWKS(ctx, file) })
	}
}

// standIn is how long the next generation may take to have a link before the old one is told to drain all the same.
const standIn = 10 * time.Second

// replace starts next and lets the current generation drain, so that there is no moment without a link.
func (a *Agent) replace(next *generation) {
	old := a.current.Load()
	a.start(next)
	wait := time.NewTimer(standIn)
	defer wait.Stop()
	select {
	case <-next.uplink.FirstLink():
	case <-wait.C:
		a.log.Warn("new links do not stand yet, the old ones are let go", "waited", standIn)
	case <-a.life.Done():
	}
	a.current.Store(next)
	old.stopLinks()
	old.stopWatcher()
}
