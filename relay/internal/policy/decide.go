package policy

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// A trial is one call on its way through the gate.
type trial struct {
	*Gate
	request  *Request
	decision *Decision
	now      time.Time
	path     string // decoded
}

// A step is one question of the gate's. What it asks by is the decision's Rule while it asks.
type step func(t *trial, ctx context.Context) *protocol.Error

// plain is a step that never waits.
func plain(ask func(*trial) *protocol.Error) step {
	return func(t *trial, _ context.Context) *protocol.Error { return ask(t) }
}

// The gate's questions, in their order.
var (
	identify     = plain((*trial).identify)
	readPath     = plain((*trial).readPath)
	locate       = plain((*trial).locate)
	checkCaller  = plain((*trial).checkCaller)
	checkNetwork = plain((*trial).checkProtocol)
	checkSource  = plain((*trial).checkSource)
	authenticate = step((*trial).authenticate)
	stillProved  = plain((*trial).stillProved)
	checkAllow   = plain((*trial).checkAllow)

	all = []step{identify, readPath, locate, checkCaller, checkNetwork, checkSource, authenticate, checkAllow}
	// again is asked of a call whose principal was proved before.
	again = []step{readPath, locate, checkCaller, checkNetwork, checkSource, stillProved, checkAllow}
)

func (g *Gate) trial(r *Request, now time.Time) *trial {
	return &trial{Gate: g, request: r, decision: &Decision{Version: g.version}, now: now}
}

// Decide asks, in this order and no further than the first no: the SVID, the path, the tunnel and the caller's trust
// domain, callers, the protocol, sources, what authenticate asks for, allow. A tunnel without allow lets pass what came that far.
//
// The Decision is never nil. The error is nil for yes, and otherwise always a *protocol.Error, whose sentence may go to
// the caller and whose cause may not. Decide blocks only where verifying the token does, until ctx ends.
func (g *Gate) Decide(ctx context.Context, r *Request) (*Decision, error) {
	t := g.trial(r, g.now())
	for _, ask := range all {
		if refusal := ask(t, ctx); refusal != nil {
			return t.decision, refusal
		}
	}
	return t.decision, nil
}
