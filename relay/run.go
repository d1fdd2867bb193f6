package relay

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/relay/internal/control"
	"github.com/fairlead/fairlead/relay/internal/ops"
)

// Run serves until ctx ends or a listener fails. It stops in this order: not ready, new calls are refused; running calls
// may finish within drain_timeout; the agents' links close; then health and control, which answer until the end; the audit last.
func (r *Relay) Run(ctx context.Context) error {
	side, stopSide := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSide()
	group, side := errgroup.WithContext(side)
	if err := r.openAudit(); err != nil {
		return err
	}
	r.runAudit(side, group)
	if err := r.serveSide(side, group); err != nil {
		stopSide()
		return errors.Join(err, group.Wait(), r.closeAudit())
	}
	r.note(&audit.Record{Kind: audit.KindConfig, Reason: "the relay starts, version " + r.cfg.Version})
	life, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(side, stop) // a listener that fails ends the relay
	group.Go(func() error { r.watchFile(life); return nil })
	group.Go(func() error { r.registry.Run(life); return nil })
	group.Go(func() error { r.links.Run(side); return nil }) // links are judged while they drain, too
	group.Go(func() error { r.callers.Run(side); return nil })
	group.Go(func() error { certs.WatchExpiry(side, r, r.log); return nil })
	asking, cancel := context.WithTimeout(life, firstBans)
	r.fetchBans(asking) // before anybody may connect
	cancel()
	group.Go(func() error { r.followBans(side); return nil })
	err := r.servePort(life)
	stop()
	r.registry.Wait()
	r.reloading.Lock() // no rules start from here on
	r.running.Wait()
	r.reloading.Unlock()
	stopSide()
	err = errors.Join(err, group.Wait(), r.closeAudit())
	r.log.Info("relay stopped")
	return err
}

// servePort serves agents and callers until life ends and the drain is over.
func (r *Relay) servePort(life context.Context) error {
	if err := r.begin(life); err != nil {
		return err
	}
	file := r.current.Load().file
	port, err := r.newFront(life, file)
	if err != nil {
		return err
	}
	r.log.Info("relay starts", "listen", port.Addr().String(), "version", r.cfg.Version, "spiffe_id", r.source.ID(),
		"tunnels", len(file.Tunnels), "issuers", len(file.Tokens))
	defer context.AfterFunc(life, func() {
		r.stopping.Store(true)
		r.gateway.Drain()
		r.log.Info("relay drains", "timeout", file.DrainTimeout)
	})()
	b := port.Buffers()
	r.udp.Store(&Buffers{Wanted: b.Wanted, Receive: b.Receive, Send: b.Send, Short: max(0, b.Wanted-min(b.Receive, b.Send))})
	r.listening.Store(true)
	return port.Run(life)
}

// begin starts what follows the first configuration.
func (r *Relay) begin(life context.Context) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.life, r.stops = life, life
	first := r.current.Load()
	if err := r.openDoors(first); err != nil {
		return err
	}
	r.start(first)
	return nil
}

// serveSide opens health and control.
func (r *Relay) serveSide(ctx context.Context, group *errgroup.Group) error {
	file := r.current.Load().file
	opsLn, err := new(net.ListenConfig).Listen(ctx, "tcp", file.Ops.String())
	if err != nil {
		return fmt.Errorf("ops: %w", err)
	}
	controlLn, err := control.Listen(ctx, file.Control)
	if err != nil {
		return errors.Join(err, opsLn.Close())
	}
	health := ops.New(r.ready, r.metrics.registry)
	commands := &control.Server{Status: func() any { return r.Status() }, Reload: r.Reload, Explain: r.answerExplain, Log: r.log}
	group.Go(func() error { return health.Run(ctx, opsLn) })
	group.Go(func() error { return commands.Run(ctx, controlLn) })
	return nil
}

// ready says whether calls can be decided: the port is open and every issuer has keys.
func (r *Relay) ready() error {
	switch {
	case r.stopping.Load():
		return errors.New("draining")
	case !r.listening.Load():
		return errors.New("not listening yet")
	}
	return r.current.Load().ready()
}
