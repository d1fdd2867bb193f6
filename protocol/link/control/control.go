// Package control runs the control stream of a link, the first stream that the dialling side opens: Hello and Welcome,
// then pings from both ends, tunnel statuses and drains. From the pings it tells whether the link is alive, suspect or
// dead, and ends a dead one.
//
// It decides nothing about tunnels or identities; its callers do.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// ErrDead is the cause of a link's end when the peer has been silent for too long.
var ErrDead = errors.New("peer is silent")

// Config holds the times of a link's life. The zero value of each field means its default.
type Config struct {
	HelloTimeout time.Duration // for Hello and Welcome to arrive; default 5 s
	BusyEvery    time.Duration // between pings while streams run; default 1 s
	IdleEvery    time.Duration // between pings otherwise; default 5 s
	SuspectAfter time.Duration // least wait for a pong, 4 round trips if that is more; default 300 ms
	BusyDead     time.Duration // silence that ends the link while streams run; default 5 s
	IdleDead     time.Duration // silence that ends it otherwise; default 15 s
	Log          *slog.Logger  // default: discards
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HelloTimeout, 5*time.Second)
	def(&c.BusyEvery, time.Second)
	def(&c.IdleEvery, 5*time.Second)
	def(&c.SuspectAfter, 300*time.Millisecond)
	def(&c.BusyDead, 5*time.Second)
	def(&c.IdleDead, 15*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// RefusedError is the peer's Welcome that refuses the link.
type RefusedError struct {
	Code     protocol.Code
	Sentence string
	After    time.Duration // when to come back; zero: whenever
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("relay refuses the link: %v: %s", e.Code, e.Sentence)
}

// RetryAfter is After, as redial asks for it.
func (e *RefusedError) RetryAfter() time.Duration { return e.After }

// Conn is one link's control stream. Its methods are safe for concurrent use.
type Conn struct {
	session link.Session
	stream  link.Stream
	cfg     Config

	writing sync.Mutex // one frame at a time

	suspect atomic.Bool
	rtt     atomic.Int64 // smoothed, nanoseconds; zero: not measured yet
	probe   chan struct{}
	pongs   chan uint64
}

func newConn(s link.Session, st link.Stream, cfg Config) *Conn {
	return &Conn{session: s, stream: st, cfg: cfg, probe: make(chan struct{}, 1), pongs: make(chan uint64, 4)}
}

// Dial opens the control stream of s, says hello and waits for the answer. A refusal is a *RefusedError. On any error
// the session is closed.
func Dial(ctx context.Context, s link.Session, hello *protocol.Hello, cfg Config) (*Conn, *protocol.Welcome, error) {
	c, welcome, err := dial(ctx, s, hello, cfg.withDefaults())
	if err != nil {
		s.Close(err)
		return nil, nil, err
	}
	return c, welcome, nil
}

func dial(ctx context.Context, s link.Session, hello *protocol.Hello, cfg Config) (*Conn, *protocol.Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.HelloTimeout)
	defer cancel()
	st, err := s.Open(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the control stream: %w", err)
	}
	defer context.AfterFunc(ctx, func() { s.Close(context.Cause(ctx)) })()
	welcome, err := Greet(st, hello)
	if err != nil {
		return nil, nil, err
	}
	return newConn(s, st, cfg), welcome, nil
}

// Greet says hello on rw and reads the answer; a refusal is a *RefusedError. It blocks as rw does.
func Greet(rw io.ReadWriter, hello *protocol.Hello) (*protocol.Welcome, error) {
	if err := protocol.Write(rw, hello); err != nil {
		return nil, fmt.Errorf("saying hello: %w", err)
	}
	m, err := protocol.ReadControl(rw)
	if err != nil {
		return nil, fmt.Errorf("waiting for welcome: %w", err)
	}
	welcome, ok := m.(*protocol.Welcome)
	if !ok {
		return nil, fmt.Errorf("%w: expected Welcome, got %T", protocol.ErrMalformed, m)
	}
	if welcome.Code != protocol.OK {
		return nil, &RefusedError{welcome.Code, welcome.Sentence, welcome.RetryAfter}
	}
	if welcome.Version < hello.MinVersion || welcome.Version > hello.MaxVersion {
		return nil, fmt.Errorf("%w: relay chose version %d of %d to %d", protocol.ErrMalformed,
			welcome.Version, hello.MinVersion, hello.MaxVersion)
	}
	return welcome, nil
}

// Admit reads the peer's Hello from rw, negotiates the version, and writes what answer makes of it. Where that refuses,
// the error is the *RefusedError that the peer was told. It blocks as rw does.
func Admit(rw io.ReadWriter, answer func(*protocol.Hello) *protocol.Welcome) (*protocol.Hello, error) {
	m, err := protocol.ReadControl(rw)
	if err != nil {
		return nil, fmt.Errorf("waiting for hello: %w", err)
	}
	hello, ok := m.(*protocol.Hello)
	if !ok {
		return nil, fmt.Errorf("%w: expected Hello, got %T", protocol.ErrMalformed, m)
	}
	var welcome *protocol.Welcome
	version, err := protocol.Negotiate(hello.MinVersion, hello.MaxVersion)
	if err != nil {
		e := protocol.AsError(err)
		welcome = &protocol.Welcome{Code: e.Code, Sentence: e.Sentence}
	} else if welcome = answer(hello); welcome.Code == protocol.OK {
		welcome.Version = version
	}
	if err := protocol.Write(rw, welcome); err != nil {
		return nil, fmt.Errorf("sending welcome: %w", err)
	}
	if welcome.Code != protocol.OK {
		return nil, &RefusedError{welcome.Code, welcome.Sentence, welcome.RetryAfter}
	}
	return hello, nil
}

// Accept waits for the peer's control stream and its Hello, and sends what answer makes of it; the version is
// negotiated before answer is asked, and filled in after. Where the answer refuses, the error is the *RefusedError
// that the peer was told. On any error the session is closed.
func Accept(ctx context.Context, s link.Session, answer func(*protocol.Hello) *protocol.Welcome, cfg Config) (*Conn, *protocol.Hello, error) {
	c, hello, err := accept(ctx, s, answer, cfg.withDefaults())
	if err != nil {
		s.Close(err)
		return nil, nil, err
	}
	return c, hello, nil
}

func accept(ctx context.Context, s link.Session, answer func(*protocol.Hello) *protocol.Welcome, cfg Config) (*Conn, *protocol.Hello, error) {
	late := protocol.Errorf(protocol.RegistrationTimeout, "expected Hello within %v", cfg.HelloTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.HelloTimeout, late)
	defer cancel()
	st, err := s.Accept(ctx)
	if err != nil {
		return nil, nil, cmpCause(ctx, fmt.Errorf("waiting for the control stream: %w", err))
	}
	stop := context.AfterFunc(ctx, func() { s.Close(context.Cause(ctx)) })
	defer stop()
	hello, err := Admit(st, answer)
	if _, refused := errors.AsType[*RefusedError](err); refused {
		awaitHangUp(st)
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, cmpCause(ctx, err)
	}
	return newConn(s, st, cfg), hello, nil
}

// cmpCause prefers the reason for which ctx ended to what that did to the stream.
func cmpCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// awaitHangUp gives the peer a moment to read a refusal before the session is closed under it.
func awaitHangUp(st link.Stream) {
	_ = st.CloseWrite()                                     // the refusal was written; what follows is courtesy
	_ = st.SetReadDeadline(time.Now().Add(2 * time.Second)) // never fails on a live stream, and a dead one ends the read
	_, _ = st.Read(make([]byte, 1))
}

// Send writes one message, blocking while the peer takes nothing, at most for the dead time.
func (c *Conn) Send(m protocol.Message) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.stream.SetWriteDeadline(time.Now().Add(c.cfg.BusyDead)); err != nil {
		return err
	}
	return protocol.Write(c.stream, m)
}

// Suspect reports that the peer has not answered in time: use another link where there is one.
func (c *Conn) Suspect() bool { return c.suspect.Load() }

// RTT is the smoothed round-trip time, zero before the first answer.
func (c *Conn) RTT() time.Duration { return time.Duration(c.rtt.Load()) }

// Probe pings at once, for when a sibling link became suspect. It never blocks.
func (c *Conn) Probe() {
	select {
	case c.probe <- struct{}{}:
	default: // one is due already
	}
}
