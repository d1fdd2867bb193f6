// Package health finds out whether backends answer, and says so when that changes: down after three failures in a row,
// up again after two successes. It does not stop calls; the relays prefer agents whose backend is up.
package health

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

const (
	downAfter    = 3
	upAfter      = 2
	probeTimeout = 5 * time.Second
)

// Probe asks one backend; nil means it answered well. A *protocol.Error says in its sentence what may be told.
type Probe func(context.Context) error

// Target is one tunnel to watch.
type Target struct {
	Tunnel protocol.TunnelName
	Every  time.Duration
	Probe  Probe
}

// Watcher watches a set of targets. Its methods are safe for concurrent use.
type Watcher struct {
	targets []Target
	changed func(*protocol.TunnelStatus)
	log     *slog.Logger

	mu     sync.Mutex // guards: status
	status map[protocol.TunnelName]*protocol.TunnelStatus
}

// New returns a Watcher that calls changed, from its own goroutines, each time a tunnel goes down or comes back. Every
// tunnel is taken to be up until it is known to be down.
func New(targets []Target, changed func(*protocol.TunnelStatus), log *slog.Logger) *Watcher {
	return &Watcher{targets: targets, changed: changed, log: log, status: map[protocol.TunnelName]*protocol.TunnelStatus{}}
}

// Down returns the status of every tunnel that is down: what a new link must be told.
func (w *Watcher) Down() []*protocol.TunnelStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	var down []*protocol.TunnelStatus
	for _, s := range w.status {
		if !s.Up {
			down = append(down, s)
		}
	}
	return down
}

// Run probes until ctx ends, and returns when every probe has.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, t := range w.targets {
		wg.Go(func() { w.watch(ctx, t) })
	}
	wg.Wait()
}

func (w *Watcher) watch(ctx context.Context, t Target) {
	up, row := true, 0 // row counts the probes in a row that contradict up
	timer := time.NewTimer(rand.N(t.Every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := probe(ctx, t.Probe)
		if ctx.Err() != nil {
			return
		}
		if (err == nil) == up {
			row = 0
		} else if row++; up && row == downAfter || !up && row == upAfter {
			up, row = !up, 0
			w.set(t.Tunnel, up, err)
		}
		timer.Reset(t.Every)
	}
}

func probe(ctx context.Context, p Probe) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return p(ctx)
}

func (w *Watcher) set(tunnel protocol.TunnelName, up bool, err error) {
	s := &protocol.TunnelStatus{Name: tunnel, Up: up}
	if up {
		w.log.Info("backend answers again", "tunnel", tunnel)
	} else {
		s.Sentence = protocol.AsError(err).Sentence
		w.log.Warn("backend does not answer", "tunnel", tunnel, "error", err)
	}
	w.mu.Lock()
	w.status[tunnel] = s
	w.mu.Unlock()
	w.changed(s)
}
