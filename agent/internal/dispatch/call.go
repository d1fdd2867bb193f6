package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// answerTimeout bounds writing an Opened: it is a stream's first bytes, so that only a dead link holds it up.
const answerTimeout = 10 * time.Second

// call is one data stream from its Open on.
type call struct {
	d       *Dispatcher
	stream  link.Stream
	open    *protocol.Open
	table   *table // by which it was decided
	tunnel  *tunnel
	started time.Time
	report  Report

	end      context.CancelCauseFunc // ends it while it runs
	admitted bool                    // it was let through, and is recorded
}

// Grants says what a relay's grant for the tunnel says, where that holds: uplink.Uplink.Grant, whose errors these are.
type Grants func(raw []byte, tunnel protocol.TunnelName) (*grant.Grant, error)

// Serve serves one data stream to its end and releases it; grants judges what the relay says of the caller. It blocks until the call is over and its peer has ended the
// stream (or has had long enough to), or until ctx ends; then the stream is reset with the code of ctx's cause. A panic
// inside ends this call alone.
func (d *Dispatcher) Serve(ctx context.Context, stream link.Stream, info link.Info, grants Grants) {
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { stream.Reset(uint16(endCode(ctx))) })
	defer stop()
	c := &call{d: d, stream: stream, started: time.Now()}
	if !c.readOpen() {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			stream.Reset(uint16(protocol.Internal))
			c.failed(&protocol.Error{Code: protocol.Internal, Sent: true, Cause: panicError(v)})
		}
		c.report.Total = time.Since(c.started)
		c.report.log(d.cfg.Log, info.Transport)
		c.recordEnd()
		if d.cfg.Ended != nil && c.tunnel != nil {
			d.cfg.Ended(&c.report)
		}
		// After the line is written: the peer may take its time to end a stream, and the call is over.
		drain(stream)
	}()
	c.serve(ctx, grants)
}

// endCode is what a stream is reset with when ctx ended under it.
func endCode(ctx context.Context) protocol.Code {
	if e, ok := errors.AsType[*protocol.Error](context.Cause(ctx)); ok {
		return e.Code
	}
	return protocol.LinkLost
}

func (c *call) readOpen() bool {
	_ = c.stream.SetReadDeadline(c.started.Add(c.d.cfg.OpenTimeout)) // fails only where the read fails too
	open, err := protocol.ReadOpen(c.stream)
	if err != nil {
		// No call to speak of: the peer broke the protocol, or went away.
		c.d.cfg.Log.Warn("stream without an open", "error", detail(err))
		c.stream.Reset(uint16(protocol.BadRequest))
		return false
	}
	_ = c.stream.SetReadDeadline(time.Time{})
	c.open = open
	c.report = Report{Tunnel: open.Tunnel, Network: open.Network, CallID: open.CallID}
	return true
}

func (c *call) serve(ctx context.Context, grants Grants) {
	if refusal := c.recorded(c.decide(ctx, grants)); refusal != nil {
		c.refuse(refusal)
		return
	}
	ctx, c.end = context.WithCancelCause(ctx)
	defer c.end(nil)
	c.d.live.Store(c, nil)
	defer c.d.live.Delete(c)
	if now := c.d.tunnels.Load(); now != c.table { // they have changed since
		c.judge(now)
	}
	if c.open.Network == protocol.HTTP {
		c.serveHTTP(ctx)
		return
	}
	if c.open.Network == protocol.UDP {
		c.serveUDP(ctx)
		return
	}
	c.serveTCP(ctx)
}

// judge looks anew at a call that runs, since the rules have changed: what would not be let through now ends.
func (c *call) judge(tunnels *table) {
	t, ok := tunnels.find(c.open.Tunnel)
	err := error(protocol.Errorf(protocol.UnknownTunnel, "this agent does not serve the tunnel any more"))
	if ok {
		err = t.rules.Allow(c.open, c.report.Grant)
	}
	if err == nil {
		return
	}
	e := *protocol.AsError(err)
	e.Sent = true
	c.d.cfg.Log.Warn("call ended, the rules do not allow it any more", "call_id", c.open.CallID, "tunnel", string(c.open.Tunnel), "error", &e)
	c.end(&e)
	c.stream.Reset(uint16(e.Code)) // it may wait for either side
}

// decide judges the call by its grant and the rules of its tunnel.
func (c *call) decide(ctx context.Context, grants Grants) *protocol.Error {
	c.table = c.d.tunnels.Load()
	t, ok := c.table.find(c.open.Tunnel)
	if !ok {
		return protocol.Errorf(protocol.UnknownTunnel, "this agent does not serve the tunnel")
	}
	c.tunnel = t
	if c.d.cfg.Began != nil {
		c.d.cfg.Began(c.open.Tunnel, c.open.Network)
	}
	g, err := grants(c.open.Grant, c.open.Tunnel)
	if err != nil {
		return grantError(err)
	}
	c.report.Grant = g
	if err := t.rules.Admit(ctx, c.open, g, c.d.cfg.Tokens()); err != nil {
		return protocol.AsError(err)
	}
	return nil
}

// grantError is what a grant that does not hold means to the caller.
func grantError(err error) *protocol.Error {
	if errors.Is(err, grant.ErrUnknownKey) {
		return protocol.Errorf(protocol.IdentityUnavailable, "the agent does not know the key of the relay's grant").WithCause(err)
	}
	return protocol.Errorf(protocol.AgentDenied, "the relay's grant does not hold at the agent").WithCause(err)
}

// refuse answers with a code, in place of everything else, and ends this direction.
func (c *call) refuse(e *protocol.Error) {
	c.failed(e)
	if err := c.answer(&protocol.Opened{Code: e.Code, Sentence: e.Sentence, Sent: e.Sent}, link.Finish); err != nil {
		c.stream.Reset(uint16(e.Code))
	}
}

// failed notes why the call did not end well; the first reason stays.
func (c *call) failed(e *protocol.Error) {
	if c.report.Err != nil {
		return
	}
	c.report.Code, c.report.Sent, c.report.Err = e.Code, e.Sent, e
}

// answer writes the agent's word by one call of write.
func (c *call) answer(m *protocol.Opened, write func(link.Stream, []byte) (int, error)) error {
	b, err := protocol.Append(nil, m)
	if err != nil {
		return err
	}
	_ = c.stream.SetWriteDeadline(time.Now().Add(answerTimeout))
	defer func() { _ = c.stream.SetWriteDeadline(time.Time{}) }()
	_, err = write(c.stream, b)
	return err
}

func panicError(v any) error {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return err
	}
	return fmt.Errorf("panic: %v\n%s", v, debug.Stack())
}
