package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/control"
)

// askTimeout bounds one request on one link.
const askTimeout = 15 * time.Second

// ErrNoLink is Ask's where no link stands.
var ErrNoLink = errors.New("no link to a relay stands")

// Ask carries a request to the authority behind the relays: by one link after the other, until one brings an answer.
func (u *Uplink) Ask(ctx context.Context, request []byte) ([]byte, error) {
	last := ErrNoLink
	all := u.all()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) // a relay that is silent delays some requests, not all
	for _, e := range all {
		answer, err := e.ask(ctx, request)
		if err == nil {
			return answer, nil
		}
		if !errors.Is(err, ErrNoLink) {
			last = fmt.Errorf("asking by %s over %s: %w", e.relay, e.transport, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// asking is the request that is under way on one link.
type asking struct {
	number uint32
	answer chan *protocol.Answer // has room for one
}

func (e *end) ask(ctx context.Context, request []byte) ([]byte, error) {
	e.oneAsk.Lock()
	defer e.oneAsk.Unlock()
	e.mu.Lock()
	conn, session := e.conn, e.session
	e.asked++
	a := &asking{e.asked, make(chan *protocol.Answer, 1)}
	e.asking = a
	e.mu.Unlock()
	if conn == nil {
		return nil, ErrNoLink
	}
	if err := conn.Send(&protocol.Ask{Number: a.number, Request: request}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case m := <-a.answer:
		return control.Answered(m)
	case <-session.Done():
		return nil, fmt.Errorf("the link has ended: %w", session.Err())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// answered takes an answer; one that nobody waits for any more is passed over, and one to nothing says that the authority's
// state has changed.
func (e *end) answered(m *protocol.Answer) {
	if m.Number == 0 && e.u.cfg.Changed != nil {
		e.u.cfg.Changed()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.asking; a != nil && a.number == m.Number {
		e.asking = nil
		a.answer <- m
	}
}
