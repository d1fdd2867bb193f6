//go:build linux

// Package load is the neutral load of the benchmark: a backend that gives, takes and echoes bytes over plain TCP, and
// clients that measure how fast it does. It knows nothing of what lies between the two.
package load

import (
	"context"
	"fmt"
	"time"
)

// The kinds of load.
const (
	Bulk = "bulk" // Streams that move bytes as fast as they can, one way
	RR   = "rr"   // Streams that send 1 KiB and wait for as much, again and again
	Conn = "conn" // Streams at a time that connect, send a byte, get one, close, again and again
	HTTP = "http" // Streams that GET a URL, again and again
	Idle = "idle" // Streams that are open, and used once
)

// A Spec says what to do. It crosses to the process that does it as JSON.
type Spec struct {
	Kind    string
	Address []string // host:port of the backend or of the tunnel to it; several share the streams
	Streams int
	Up      bool          // bulk: to the backend, not from it
	Prepare time.Duration // first, open as many streams, use each once, hold them so long, and end them; 0: do not
	Warm    time.Duration // before the window; 0: the window begins before the streams are opened
	Window  time.Duration // that is measured
	Pids    []int         // of the processes whose CPU time is read at both ends of the window
	Behind  string        // rr: up or down, the way of a bulk stream that runs beside; empty: none
	Aborted time.Duration // bulk: how long a stream runs first that is then cut off at its fastest; 0: none
	Header  string        // http: an Authorization header
	TLS     *TLS          // http: speak TLS; nil: plain
	Once    bool          // http: a connection a call
}

// TLS is how a caller proves who it is.
type TLS struct {
	Cert, Key, CA string // PEM files
	Name          string // DNS name of the server, and the Host of the requests
	H2            bool   // HTTP/2, not HTTP/1.1
}

// A Result is what was measured. It crosses back as JSON.
type Result struct {
	Seconds float64   // the window as it was
	Bytes   int64     // bulk: that arrived in it, at the client or, by its own word, at the backend
	Calls   int64     // the others: done in it
	Beside  int64     // rr: bytes that the bulk stream beside moved in it
	P50     float64   // µs; rr, http: of a call
	P99     float64   // µs
	CPU     []float64 // seconds of user and system time by Spec.Pids
}

// Run puts the load on and hands the result to report as soon as the window has passed, with the streams still open:
// only then it ends them, cleanly, and returns an error if they were not as they should be. An idle load holds its
// streams until ctx ends.
func Run(ctx context.Context, s Spec, report func(Result)) error {
	if len(s.Address) == 0 || s.Streams < 1 {
		return fmt.Errorf("expected an address and a stream or more, got %+v", s)
	}
	if err := prepare(ctx, s); err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	switch s.Kind {
	case Bulk:
		return bulk(ctx, s, report)
	case RR:
		return rr(ctx, s, report)
	case Conn:
		return conns(ctx, s, report)
	case HTTP:
		return web(ctx, s, report)
	case Idle:
		return idle(ctx, s, report)
	}
	return fmt.Errorf("unknown kind of load %q", s.Kind)
}

// address returns the i-th stream's.
func (s Spec) address(i int) string { return s.Address[i%len(s.Address)] }
