package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/certs/audit"
)

// Reload reads the configuration again and takes it whole or, with an error, not at all: the old one serves on. Running
// calls go on. It is called by SIGHUP, by the `reload` command, and when the file has changed.
func (r *Relay) Reload() error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	return r.reload()
}

// reload is called with reloading held.
func (r *Relay) reload() error {
	err := r.take()
	if err != nil {
		r.log.Error("configuration not taken, the old one serves on", "file", r.cfg.File, "error", err)
		return err
	}
	r.log.Info("configuration reloaded", "file", r.cfg.File)
	return nil
}

// reloadTimeout bounds the wait for an identity that a new configuration names.
const reloadTimeout = 10 * time.Second

func (r *Relay) take() error {
	if r.life == nil || r.stopping.Load() {
		return errors.New("the relay is not running")
	}
	digest, err := digestOf(r.cfg.File)
	if err != nil {
		return err
	}
	r.digest = digest
	opening, cancel := context.WithTimeout(r.life, reloadTimeout)
	defer cancel()
	next, err := load(opening, r.cfg.File, r.dial, r.log)
	if err != nil {
		return err
	}
	old := r.current.Load()
	if err := restartOnly(old.file, next.file); err != nil {
		return fmt.Errorf("%s: %w", r.cfg.File, err)
	}
	next.adopt(old)
	if err := next.decide(r.source, r.bans.Check, &r.memory); err != nil {
		return err
	}
	if err := r.openDoors(next); err != nil {
		return err
	}
	// Nothing fails from here on.
	r.source.Swap(next.source)
	r.start(next)
	r.current.Store(next)
	r.registry.Reload(next.owns)
	r.note(&audit.Record{Kind: audit.KindConfig, Reason: "the configuration was reloaded"})
	r.judge()
	r.closeDoors(next)
	old.stop()
	return nil
}

// judge looks anew at everybody who is connected: the configuration or the bans have changed.
func (r *Relay) judge() {
	r.links.Judge()
	r.callers.Judge()
	r.gateway.Judge()
}

// start follows the files and the keys of x until it is replaced or the relay stops. It is called with reloading held.
func (r *Relay) start(x *rules) {
	ctx, stop := context.WithCancel(r.life)
	x.stop = stop
	r.running.Go(func() {
		_ = x.source.Run(ctx) // returns nil
		x.authority.close()
	})
	r.running.Go(func() { _ = x.tokens.Run(ctx) }) // returns nil
}

// pollFile is how often the file's content is looked at; Kubernetes swaps symlinks, so its times say nothing.
const pollFile = 2 * time.Second

// watchFile reloads when the file has changed, until ctx ends. A content is tried once, good or not.
func (r *Relay) watchFile(ctx context.Context) {
	tick := time.NewTicker(pollFile)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.reloading.Lock()
			if digest, err := digestOf(r.cfg.File); err == nil && digest != r.digest {
				_ = r.reload() // logged there
			}
			r.reloading.Unlock()
		}
	}
}
