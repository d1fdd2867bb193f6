package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// Handler is told what the peer says. Its functions are called one at a time from Run's reader, so they must not
// block for long; a nil one ignores what it would be told.
type Handler struct {
	Status  func(*protocol.TunnelStatus)
	Drain   func(*protocol.Drain)
	Proof   func(*protocol.Proof)
	Ask     func(*protocol.Ask)
	Answer  func(*protocol.Answer)
	Key     func(*protocol.GrantKey)
	Suspect func(suspect bool) // the state changed; called from the pinger
}

// Run reads and pings until the link ends or ctx does, and returns why; the session is closed by then, and every
// goroutine of Run has ended. It is called once.
func (c *Conn) Run(ctx context.Context, h Handler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		cancel(c.read(ctx, h))
	}()
	c.ping(ctx, cancel, h)
	err := context.Cause(ctx)
	if lost := c.session.Err(); lost != nil && !errors.Is(err, ErrDead) {
		err = lost // says more than what the control stream saw of it
	}
	c.session.Close(err)
	<-read
	return err
}

func (c *Conn) read(ctx context.Context, h Handler) error {
	for {
		m, err := protocol.ReadControl(c.stream)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the peer ended the control stream", link.ErrLost)
		}
		if err != nil {
			return fmt.Errorf("reading the control stream: %w", err)
		}
		switch m := m.(type) {
		case *protocol.Ping:
			if err := c.Send(&protocol.Pong{Token: m.Token}); err != nil {
				return fmt.Errorf("answering a ping: %w", err)
			}
		case *protocol.Pong:
			select {
			case c.pongs <- m.Token:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case *protocol.TunnelStatus:
			if h.Status != nil {
				h.Status(m)
			}
		case *protocol.Drain:
			if h.Drain != nil {
				h.Drain(m)
			}
		case *protocol.Proof:
			if h.Proof != nil {
				h.Proof(m)
			}
		case *protocol.Ask:
			if h.Ask != nil {
				h.Ask(m)
			}
		case *protocol.Answer:
			if h.Answer != nil {
				h.Answer(m)
			}
		case *protocol.GrantKey:
			if h.Key != nil {
				h.Key(m)
			}
		default:
			return fmt.Errorf("%w: %T after the beginning", protocol.ErrMalformed, m)
		}
	}
}

// ping sends pings, judges the silence after them and cancels with ErrDead when there is too much of it.
func (c *Conn) ping(ctx context.Context, cancel context.CancelCauseFunc, h Handler) {
	p := newPulse(c.cfg, time.Now(), c.session.Received())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.session.Done():
			cancel(c.session.Err())
			return
		case token := <-c.pongs:
			if rtt, ok := p.pong(token, time.Now()); ok {
				c.smooth(rtt)
			}
		case <-c.probe:
			p.pinged = time.Time{} // so that one is due
		case <-timer.C:
		}
		now := time.Now()
		p.look(now, c.session.Received(), c.session.Streams() > 1, c.RTT())
		if silence := now.Sub(p.heard); silence >= p.dead {
			cancel(fmt.Errorf("%w for %v", ErrDead, silence.Round(time.Millisecond)))
			return
		}
		if p.due(now) {
			if err := c.Send(&protocol.Ping{Token: p.ping(now)}); err != nil {
				cancel(fmt.Errorf("pinging: %w", err))
				return
			}
		}
		if p.suspect != c.suspect.Load() {
			c.suspect.Store(p.suspect)
			if h.Suspect != nil {
				h.Suspect(p.suspect)
			}
		}
		timer.Reset(p.wake(now))
	}
}

// smooth folds one measurement into the round-trip time as RFC 6298 §2 does.
func (c *Conn) smooth(rtt time.Duration) {
	if old := c.RTT(); old > 0 {
		rtt = old + (rtt-old)/8
	}
	c.rtt.Store(int64(max(rtt, 1)))
}
