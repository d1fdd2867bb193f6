// Package agent is the half of Fairlead in the data centre: it dials relays, and reaches the backends of its own file
// for them. DESIGN.md says how its parts meet.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/control"
	"github.com/fairlead/fairlead/agent/internal/dispatch"
	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/agent/internal/ops"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/certs/bearer"
)

// Config makes an Agent. Every field is required.
type Config struct {
	File    string // agent.yaml
	Version string // for people: Hello and status carry it
	Log     *slog.Logger
}

// Faults is the error of a configuration file: everything that is wrong in it, with lines.
type Faults = config.Faults

// drainTimeout is how long running calls may go on when their links are replaced or the agent stops.
const drainTimeout = 60 * time.Second

// Agent is one agent process. Its methods are safe for concurrent use.
type Agent struct {
	cfg        Config
	log        *slog.Logger
	epoch      uint64
	slots      atomic.Uint32
	metrics    *metrics
	dispatcher *dispatch.Dispatcher
	audit      *audit.Log // nil where the configuration names none; set by Run before the first link

	// reloading serialises reloads and guards digest and life.
	reloading sync.Mutex
	digest    [32]byte        // of the file as it was last read, good or not
	life      context.Context // of generations; set by Run

	current  atomic.Pointer[generation]
	running  sync.WaitGroup // generations, the current and those that drain
	stopping atomic.Bool
}

// Check reads a configuration and everything that it names exactly as New does, and returns what is wrong. It blocks as New
// does.
func Check(ctx context.Context, file string) error {
	_, err := load(ctx, file, nil, slog.New(slog.DiscardHandler))
	return err
}

// New reads the configuration. It dials nobody; Run does. Where the identity comes from the Workload API it waits for that
// until ctx ends.
func New(ctx context.Context, cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, log: cfg.Log}
	if err := binary.Read(rand.Reader, binary.BigEndian, &a.epoch); err != nil {
		return nil, fmt.Errorf("drawing the epoch: %w", err)
	}
	digest, err := digestOf(cfg.File)
	if err != nil {
		return nil, err
	}
	a.digest = digest
	l, err := load(ctx, cfg.File, a.ask, cfg.Log)
	if err != nil {
		return nil, err
	}
	a.metrics = newMetrics(a)
	var record func(*audit.Record) error
	if l.file.Audit.File != "" {
		record = a.record
	}
	a.dispatcher, err = dispatch.New(dispatch.Config{
		Signer: bearer.NewTxnSigner(signer{a}), Audit: record, Tunnels: l.file.Tunnels, Log: cfg.Log, Tokens: func() guard.Tokens { return a.current.Load().tokens },
		OpenTimeout: l.file.Limits.OpenTimeout, MaxHeaderBytes: l.file.Limits.Header,
		Began: a.metrics.began, Ended: a.metrics.ended,
	})
	if err != nil {
		return nil, err
	}
	a.current.Store(a.newGeneration(l))
	return a, nil
}

// Run serves until ctx ends or a listener fails. It stops in this order: the links drain (relays are told, running
// calls may finish), the backends' connections close, then health and control, which answer until the end.
func (a *Agent) Run(ctx context.Context) error {
	first := a.current.Load()
	if err := a.openAudit(first.file.Audit); err != nil {
		return err
	}
	listeners, err := a.listen(ctx, first.file)
	if err != nil {
		return errors.Join(err, a.closeAudit())
	}
	side, stopSide := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSide()
	group, side := errgroup.WithContext(side)
	if a.audit != nil {
		group.Go(func() error { return a.audit.Run(side) })
	}
	for _, serve := range listeners {
		group.Go(func() error { return serve(side) })
	}

	life, stop := context.WithCancel(ctx)
	context.AfterFunc(side, stop) // a listener that fails ends the agent
	group.Go(func() error { a.watchFile(life); return nil })
	a.reloading.Lock()
	a.life = life
	a.log.Info("agent starts", "name", first.file.Name, "version", a.cfg.Version, "spiffe_id", first.source.ID(),
		"relays", first.file.Relays, "tunnels", len(first.file.Tunnels))
	a.start(first)
	a.reloading.Unlock()
	<-life.Done()
	a.stopping.Store(true)
	a.log.Info("agent drains", "timeout", drainTimeout)
	a.reloading.Lock() // no generation starts from here on
	a.running.Wait()
	a.reloading.Unlock()
	a.dispatcher.Close()
	stopSide()
	err = errors.Join(group.Wait(), a.closeAudit())
	a.log.Info("agent stopped")
	return err
}

// listen opens what the agent listens on: health on loopback and the control socket, and nothing else.
func (a *Agent) listen(ctx context.Context, file *config.Agent) (serve []func(context.Context) error, err error) {
	if file.Ops.IsValid() {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", file.Ops.String())
		if err != nil {
			return nil, fmt.Errorf("ops: %w", err)
		}
		server := ops.New(a.ready, a.metrics.registry)
		serve = append(serve, func(ctx context.Context) error { return server.Run(ctx, ln) })
	}
	if file.Control != "" {
		ln, err := control.Listen(ctx, file.Control)
		if err != nil {
			return nil, err
		}
		server := &control.Server{Status: func() any { return a.Status() }, Reload: a.Reload, Log: a.log}
		serve = append(serve, func(ctx context.Context) error { return server.Run(ctx, ln) })
	}
	return serve, nil
}

// ask carries a request to the authority by a link that stands.
func (a *Agent) ask(ctx context.Context, request []byte) ([]byte, error) {
	return a.current.Load().uplink.Ask(ctx, request)
}

// ready says whether a call could arrive: at least one link stands.
func (a *Agent) ready() error {
	if a.stopping.Load() {
		return errors.New("draining")
	}
	if a.current.Load().uplink.Up() == 0 {
		return errors.New("no link to any relay")
	}
	return nil
}
