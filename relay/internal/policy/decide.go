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

// Decide asks, in this order and no further than the first no: the SVID, the path, the tunnel and the caller's trust
// domain, callers, the protocol, sources, what authenticate asks for, allow. A tunnel without allow lets pass what came that far.
//
// The Decision is never nil. The error is nil for yes, and otherwise always a *protocol.Error, whose sentence may go to
// the caller and whose cause may not. Decide blocks only where verifying the token does, until ctx ends.
func (g *Gate) Decide(ctx context.Context, r *Request) (*Decision, error) {
	t := trial{Gate: g, request: r, decision: &Decision{Version: g.version}, now: g.now()}
	for _, ask := range []func() *protocol.Error{
		t.identify,
		t.readPath,
		t.locate,
		t.checkCaller,
		t.checkProtocol,
		t.checkSource,
		func() *protocol.Error { return t.authenticate(ctx) },
		t.checkAllow,
	} {
		if refusal := ask(); refusal != nil {
			return t.decision, refusal
		}
	}
	return t.decision, nil
}
