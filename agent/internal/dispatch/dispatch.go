// Package dispatch serves the data streams of a link: it reads what a call is for, asks the guard, and carries the
// call to its backend. An HTTP call is one HTTP/1.1 exchange on the stream itself, in net/http's codecs; a TCP call is
// bytes both ways.
//
// How the two ends of a stream agree on its end: the agent's Opened stands in front of the first byte of its answer;
// a refusal is an Opened with a code and then the end. Once an answer has begun, a failure is a reset with its code,
// never an end. The relay keeps its direction open until it has the whole answer (an HTTP request says itself where it
// ends), so that a caller who goes away is noticed here while the backend still thinks; it says so by a reset.
//
// It makes no links, knows no relay, and decides nothing that is not in the agent's file.
package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/protocol"
)

// Config says what a Dispatcher serves.
type Config struct {
	Tunnels []config.Tunnel
	Log     *slog.Logger // required
	// Tokens verifies the callers' own tokens, at tunnels that want them; it may be nil where none does.
	Tokens func() guard.Tokens
	// Audit records decisions, and how what was let through ended; nil: nothing is recorded.
	Audit func(*audit.Record) error
	// Signer signs transaction tokens, for tunnels whose backends get them; it may be nil where none does.
	Signer Signer
	// OpenTimeout is how long a stream may take to deliver its Open; zero: 10 s.
	OpenTimeout time.Duration
	// HeaderTimeout is how long the header of an HTTP request may take after it; zero: 10 s.
	HeaderTimeout time.Duration
	// MaxHeaderBytes bounds that header; zero: 64 KiB.
	MaxHeaderBytes int
	// Began and Ended, where given, hear of every call that named a tunnel of this agent, for metrics. They must be
	// quick, and safe for concurrent use. Ended may not keep its argument.
	Began func(protocol.TunnelName, protocol.Network)
	Ended func(*Report)
}

const (
	defaultOpenTimeout   = 10 * time.Second
	defaultHeaderTimeout = 10 * time.Second
	defaultMaxHeader     = 64 << 10
)

// Dispatcher serves calls. Its methods are safe for concurrent use. How many calls run at once is bounded by the
// streams that links admit, not here.
type Dispatcher struct {
	cfg     Config
	tunnels atomic.Pointer[table]
	live    sync.Map // of *call: those that were let through and run

	mu sync.Mutex // serialises SetTunnels
}

// New makes a Dispatcher; Close ends it.
func New(cfg Config) (*Dispatcher, error) {
	if cfg.OpenTimeout == 0 {
		cfg.OpenTimeout = defaultOpenTimeout
	}
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = defaultHeaderTimeout
	}
	if cfg.MaxHeaderBytes == 0 {
		cfg.MaxHeaderBytes = defaultMaxHeader
	}
	if cfg.Tokens == nil {
		cfg.Tokens = func() guard.Tokens { return nil }
	}
	d := &Dispatcher{cfg: cfg}
	if err := d.SetTunnels(cfg.Tunnels); err != nil {
		return nil, err
	}
	return d, nil
}

// Probe asks whether the tunnel's backend answers, in the way that its health rule says. It blocks until ctx ends.
// The error is a *protocol.Error.
func (d *Dispatcher) Probe(ctx context.Context, name protocol.TunnelName) error {
	t, ok := d.tunnels.Load().find(name)
	if !ok {
		return protocol.Errorf(protocol.UnknownTunnel, "this agent does not serve the tunnel")
	}
	return t.backend.Probe(ctx, t.cfg.Health.Path)
}

// Close releases the connections to backends. It is called when every Serve has returned, and Serve may not be called
// after it.
func (d *Dispatcher) Close() {
	for _, t := range d.tunnels.Load().byName {
		t.backend.Close()
	}
}
