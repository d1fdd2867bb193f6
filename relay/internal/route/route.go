// Package route gets a call to an agent: it picks the agent and its link, opens the stream, and tries the next one
// where a call has certainly not reached a backend, or may safely reach it twice.
//
// It does not decide who may call, and it answers no caller: its errors are *protocol.Error, except where the caller
// itself went away or sent a bad body.
package route

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

const (
	// maxTries bounds how many links one call is tried on.
	maxTries = 4
	// defaultTimeout is how long an answer may take where the call says nothing.
	defaultTimeout = 30 * time.Second
	// laneWait is how long a call waits for a lane where no link has room: the agent needs some round trips to make one.
	laneWait = 5 * time.Second
	lanePoll = 2 * time.Millisecond
)

// Config is what New needs.
type Config struct {
	Registry *registry.Registry
	Log      *slog.Logger

	// StreamsPerLink bounds the calls that one link is given at a time; default 2,000.
	StreamsPerLink int
}

// Router carries calls. It is safe for concurrent use.
type Router struct {
	registry *registry.Registry
	log      *slog.Logger
	perLink  int64
}

// New returns a router over the registry's links.
func New(cfg Config) (*Router, error) {
	if cfg.Registry == nil || cfg.Log == nil {
		return nil, errors.New("route: expected Registry and Log to be set")
	}
	if cfg.StreamsPerLink == 0 {
		cfg.StreamsPerLink = 2000
	}
	return &Router{registry: cfg.Registry, log: cfg.Log, perLink: int64(cfg.StreamsPerLink)}, nil
}

// Open opens a stream for o, and waits until the agent has reached the backend: at most o.Timeout (zero: 30 s), or
// until ctx ends. The stream is the caller's to Close or Reset; until then it counts as a running call of the link.
//
// early are the call's first bytes, where there are some already: they cross together with the Open. Once a link may
// have carried them to a backend the call is not tried on another one.
func (r *Router) Open(ctx context.Context, o *protocol.Open, early []byte) (link.Stream, *registry.Link, error) {
	s := r.search(o.Tunnel)
	for l := s.next(ctx); l != nil; l = s.next(ctx) {
		frame, err := appendOpen(nil, o, l)
		if err != nil {
			return nil, nil, err
		}
		stream, err := r.open(ctx, l, append(frame, early...), o.Timeout)
		if err == nil {
			return stream, l, nil
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		fault := protocol.AsError(err)
		r.failed(o, l, fault)
		s.failed(l, fault)
		// Where not one byte of the call was sent a lost link does no harm beyond a connection opened twice.
		if fault.Sent && (fault.Code != protocol.LinkLost || len(early) > 0) {
			return nil, nil, fault
		}
	}
	return nil, nil, s.fault()
}

// open tries one link. Its errors are *protocol.Error, or ctx's.
func (r *Router) open(ctx context.Context, l *registry.Link, frame []byte, timeout time.Duration) (link.Stream, error) {
	stream, err := r.stream(ctx, l)
	if err != nil {
		return nil, err
	}
	c := new(conn)
	c.begin(l, stream)
	stop := context.AfterFunc(ctx, func() { c.Reset(link.CodeCanceled) })
	if err := c.await(frame, timeout); err != nil {
		stop()
		if _, ok := refused(err); ok && c.CloseWrite() == nil {
			_ = c.Close() // the agent has ended too, most often: then the stream ends well
		} else {
			c.Reset(link.CodeCanceled)
		}
		return nil, c.fault(err)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return c, nil
}

// stream opens one on the link, unless it has as many as it may have. Calls that begin in the same moment may pass the
// limit by their number.
func (r *Router) stream(ctx context.Context, l *registry.Link) (link.Stream, error) {
	if l.Calls() >= r.perLink {
		return nil, openFault(link.ErrStreamLimit)
	}
	stream, err := l.Session.Open(ctx)
	if err != nil {
		return nil, openFault(err)
	}
	return stream, nil
}

// await writes the Open and reads the answer to it.
func (c *conn) await(frame []byte, timeout time.Duration) error {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write(frame); err != nil {
		return err
	}
	if err := c.readOpened(c); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// failed tells the log what the caller may never hear of, since the next link may do better.
func (r *Router) failed(o *protocol.Open, l *registry.Link, fault *protocol.Error) {
	r.log.Debug("call failed on a link", "call_id", o.CallID, "tunnel", string(o.Tunnel), "agent", l.Agent.String(),
		"name", l.Name, "transport", l.Transport, "code", fault.Code.String(), "sent", fault.Sent, "error", fault)
}

// openFault is what Session.Open says, as a refusal: the backend has seen nothing.
func openFault(err error) error {
	switch {
	case errors.Is(err, link.ErrStreamLimit):
		return protocol.Errorf(protocol.StreamLimit, "no agent takes more calls now").WithCause(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return protocol.Errorf(protocol.LinkLost, "the link to the agent was lost").WithCause(err)
}

// streamFault is what a stream says before it has carried an answer. sent: whether something was written.
func streamFault(err error, sent bool) *protocol.Error {
	if reset, ok := errors.AsType[*link.ResetError](err); ok && !reset.Local {
		return resetFault(protocol.Code(reset.Code), err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &protocol.Error{Code: protocol.BackendTimeout, Sentence: "the answer did not begin in time", Sent: sent, Cause: err}
	}
	return &protocol.Error{Code: protocol.LinkLost, Sentence: "the link to the agent was lost", Sent: sent, Cause: err}
}

// resetFault is what a reset by the agent's side says. Beyond its stream limit, and while it drains, an agent resets
// streams that it has not looked at.
func resetFault(code protocol.Code, cause error) *protocol.Error {
	switch code {
	case protocol.StreamLimit, protocol.Draining:
		return &protocol.Error{Code: code, Sentence: "no agent takes more calls now", Cause: cause}
	case protocol.BackendProtocol:
		return &protocol.Error{Code: code, Sentence: "the backend broke the protocol", Sent: true, Cause: cause}
	case protocol.BackendTimeout:
		return &protocol.Error{Code: code, Sentence: "the backend did not answer in time", Sent: true, Cause: cause}
	}
	return &protocol.Error{Code: protocol.LinkLost, Sentence: "the agent ended the call", Sent: true, Cause: cause}
}

// appendOpen appends what begins a call on the link: the caller's token goes to agents alone that ask for it.
func appendOpen(b []byte, o *protocol.Open, l *registry.Link) ([]byte, error) {
	if o.Token != "" && !l.WantsToken(o.Tunnel) {
		without := *o
		without.Token, o = "", &without
	}
	b, err := protocol.Append(b, o)
	if err != nil {
		return nil, tooLarge(err)
	}
	return b, nil
}

// tooLarge is what an Open that does not fit its frame means: names that the caller chose are too long.
func tooLarge(err error) *protocol.Error {
	return protocol.Errorf(protocol.HeadersTooLarge, "the call's method, path or identity is too long").WithCause(err)
}
