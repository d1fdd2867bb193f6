package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

// Report is how one call went.
type Report struct {
	Tunnel  protocol.TunnelName
	Network protocol.Network
	CallID  string
	Grant   *grant.Grant // nil where none held
	// Code is OK for a call that was carried to its end, whatever status the backend answered.
	Code   protocol.Code
	Sent   bool // the backend may have seen the call
	Status int  // of the backend's response; 0 without one
	// Wait is the time until the backend's response header or connection was there, Total until the call had ended.
	Wait, Total time.Duration
	// In counts the bytes that came from the relay after Open, Out those that went to it after Opened.
	In, Out int64
	Err     error // for the log: why Code is not OK
}

// log writes the one line of a call.
func (r *Report) log(log *slog.Logger, transport string) {
	level := slog.LevelDebug
	switch r.Code {
	case protocol.OK, protocol.Canceled:
	case protocol.Internal:
		level = slog.LevelError
	case protocol.AgentDenied, protocol.UnknownTunnel:
		// The relay let it through and this side did not: someone has a rule wrong, or worse.
		level = slog.LevelWarn
	default:
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("call_id", r.CallID), slog.String("tunnel", string(r.Tunnel)), slog.String("network", r.Network.String()),
		slog.String("code", r.Code.String()), slog.String("transport", transport), slog.Int64("bytes_in", r.In),
		slog.Int64("bytes_out", r.Out), slog.Duration("wait", r.Wait), slog.Duration("total", r.Total),
	}
	if g := r.Grant; g != nil {
		attrs = append(attrs, slog.String("relay", g.Relay.String()))
		if !g.Caller.IsZero() {
			attrs = append(attrs, slog.String("caller", g.Caller.String()))
		}
	}
	if r.Status != 0 {
		attrs = append(attrs, slog.Int("status", r.Status))
	}
	if r.Code != protocol.OK {
		attrs = append(attrs, slog.Bool("sent", r.Sent), slog.String("error", detail(r.Err)))
	}
	log.LogAttrs(ctx, level, "call ended", attrs...)
}

// detail is an error's text, cut so that a backend cannot fill the log.
func detail(err error) string {
	const limit = 1024
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Cause == nil {
		err = errors.New(e.Sentence)
	}
	if err == nil {
		return ""
	}
	s := err.Error()
	return s[:min(len(s), limit)]
}
