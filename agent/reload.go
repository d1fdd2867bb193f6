package agent

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reload reads the configuration again and takes it whole or, with an error, not at all: the old one serves on. Calls
// that run are not disturbed; links are replaced only where the change concerns them. It is called by SIGHUP, by the
// `reload` command, and when the file has changed.
func (a *Agent) Reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.reload()
}

// reload is called with reloading held.
func (a *Agent) reload() error {
	err := a.take()
	if err != nil {
		a.log.Error("configuration not taken, the old one serves on", "file", a.cfg.File, "error", err)
		return err
	}
	a.log.Info("configuration reloaded", "file", a.cfg.File)
	return nil
}

// reloadTimeout bounds the wait for an identity that a new configuration names.
const reloadTimeout = 10 * time.Second

func (a *Agent) take() error {
	if a.life == nil || a.stopping.Load() {
		return errors.New("the agent is not running")
	}
	digest, err := digestOf(a.cfg.File)
	if err != nil {
		return err
	}
	a.digest = digest
	opening, cancel := context.WithTimeout(a.life, reloadTimeout)
	defer cancel()
	l, err := load(opening, a.cfg.File, a.ask, a.log)
	if err != nil {
		return err
	}
	old := a.current.Load()
	if l.file.Audit != old.file.Audit || l.file.Ops != old.file.Ops || l.file.Control != old.file.Control || l.file.StateDir != old.file.StateDir ||
		l.file.Limits != old.file.Limits {
		return fmt.Errorf("%s: audit, ops, control, state_dir and limits change with a restart only", a.cfg.File)
	}
	if err := a.dispatcher.SetTunnels(l.file.Tunnels); err != nil {
		return err
	}
	next := a.newGeneration(l)
	next.tokens.Adopt(old.tokens)
	if sameLinks(old.file, l.file) {
		a.keepLinks(old, next)
	} else {
		a.replace(next)
	}
	return nil
}

// keepLinks goes on with old's links under next's file; only the health checks begin anew.
func (a *Agent) keepLinks(old, next *generation) {
	next.source, next.uplink = old.source, old.uplink
	ctx, stopWatcher := context.WithCancel(a.life)
	old.stopWatcher()
	next.stopLinks, next.stopWatcher = old.stopLinks, stopWatcher
	a.current.Store(next)
	a.running.Go(func() { next.watcher.Run(ctx) })
	a.running.Go(func() { _ = next.tokens.Run(ctx) }) // returns nil
	a.followKeys(ctx, next)
}

// pollFile is how often the file's content is looked at; Kubernetes swaps symlinks, so its times say nothing.
const pollFile = 2 * time.Second

// watchFile reloads when the file has changed, until ctx ends. A content is tried once, good or not.
func (a *Agent) watchFile(ctx context.Context) {
	tick := time.NewTicker(pollFile)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.reloading.Lock()
			if digest, err := digestOf(a.cfg.File); err == nil && digest != a.digest {
				_ = a.reload() // logged there
			}
			a.reloading.Unlock()
		}
	}
}
