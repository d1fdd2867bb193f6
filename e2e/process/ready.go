//go:build linux

package process

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// startup bounds how long a server may take until it accepts: slow machines run many tests at once.
const startup = 60 * time.Second

// A Dialer opens connections from the host that a server runs on.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Accepts waits until the program accepts TCP connections at address, or ends the test with what went wrong.
func (p *Process) Accepts(t testing.TB, from Dialer, address string) {
	t.Helper()
	p.Ready(t, "accept at "+address, func(ctx context.Context) error {
		conn, err := from.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Ready asks until ask returns nil, or ends the test: after a minute, or when the program has ended.
func (p *Process) Ready(t testing.TB, what string, ask func(context.Context) error) {
	t.Helper()
	if err := p.await(t.Context(), startup, ask); err != nil {
		t.Fatalf("waiting for %s to %s: %v\n%s", p.name, what, err, p.log.Tail(8<<10))
	}
}

func (p *Process) await(ctx context.Context, bound time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("it ended: %v", p.state())
		case <-ctx.Done():
			return fmt.Errorf("%w; the last answer: %w", ctx.Err(), err)
		}
	}
}
