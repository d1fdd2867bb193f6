package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// errStill is how a call ends on which nothing moves.
var errStill = &protocol.Error{Code: protocol.BackendTimeout, Sentence: "the exchange stood still for too long", Sent: true}

// stillness ends a plain HTTP exchange in which no byte has moved for a time, whichever side holds it up: a caller that
// does not read, one that does not send, an agent that does not answer.
type stillness struct {
	limit   time.Duration
	moved   atomic.Int64 // nanoseconds since began
	began   time.Time
	over    atomic.Bool
	cancel  context.CancelFunc
	control *http.ResponseController

	// mu guards:
	mu    sync.Mutex
	timer *time.Timer // nil: not watched; cancel and control are set with it
}

// watchStillness begins the watch, and returns the context that it ends the call with. gRPC is left alone; WebSocket
// and server-sent events are once the answer shows them. end must follow.
func (c *call) watchStillness(r *http.Request, control *http.ResponseController) context.Context {
	ctx, cancel := context.WithCancel(c.ctx)
	s := &c.still
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.began, s.cancel, s.control = c.gateway.cfg.Limits.ExchangeIdle, time.Now(), cancel, control
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		s.timer = time.AfterFunc(s.limit, s.look)
	}
	return ctx
}

// end ends the watch and its context.
func (s *stillness) end() {
	s.stop()
	s.cancel()
}

func (s *stillness) cut() {
	s.cancel()
	// A write that waits for the caller, or a read, does not hear of a context. Every server here can.
	_ = s.control.SetWriteDeadline(time.Now().Add(time.Second)) // time for an answer that says why
	_ = s.control.SetReadDeadline(time.Unix(1, 0))
}

// cutOff is cut for a call that may be no plain exchange any more, or none at all.
func (s *stillness) cutOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control != nil {
		s.cut()
	}
}

func (s *stillness) touch() { s.moved.Store(int64(time.Since(s.began))) }

func (s *stillness) ended() bool { return s.over.Load() }

func (s *stillness) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == nil {
		return
	}
	if left := s.limit - (time.Since(s.began) - time.Duration(s.moved.Load())); left > 0 {
		s.timer.Reset(left)
		return
	}
	s.timer = nil
	s.over.Store(true) // before the cut, which looks like a caller who is gone
	s.cut()
}

func (s *stillness) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// movingBody says that a request's body moves.
type movingBody struct {
	io.ReadCloser
	still *stillness
	moved *atomic.Int64
}

func (b *movingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.moved.Add(int64(n))
	b.still.touch()
	return n, err
}
