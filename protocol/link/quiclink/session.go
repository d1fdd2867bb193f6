package quiclink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/fairlead/fairlead/protocol/link"
)

// Codes of CONNECTION_CLOSE.
const (
	codeClosed = 0
	codeFault  = 1
)

// maxReason bounds what of a cause is told to the peer, in bytes.
const maxReason = 100

// Session is one end of a link.
type Session struct {
	conn    *quic.Conn
	info    link.Info
	release func() // closes what the session owns besides the connection; may be nil
	buffers Buffers
	done    chan struct{}
	running sync.WaitGroup // callbacks of contexts
	closing sync.Once

	// mu guards:
	mu      sync.Mutex
	streams int
	began   bool // the first stream has been seen
	err     error
}

var (
	_ link.Session  = (*Session)(nil)
	_ link.Measured = (*Session)(nil)
)

// Client makes the end that dialled of a connection whose handshake is complete. The connection must have been made
// with QUICConfig. The caller must end the session with Close.
func Client(conn *quic.Conn, _ link.Config) link.Session { return newSession(conn, nil, Buffers{}) }

// Server makes the end that accepted; otherwise it is as Client. The listening transport stays the caller's.
func Server(conn *quic.Conn, _ link.Config) link.Session { return newSession(conn, nil, Buffers{}) }

func newSession(conn *quic.Conn, release func(), buffers Buffers) *Session {
	s := &Session{
		conn: conn, release: release, buffers: buffers, done: make(chan struct{}),
		info: link.Info{
			Transport: "quic", Local: conn.LocalAddr(), Remote: conn.RemoteAddr(), TLS: conn.ConnectionState().TLS,
		},
	}
	s.running.Add(1)
	context.AfterFunc(conn.Context(), func() {
		defer s.running.Done()
		s.fail(cause(context.Cause(conn.Context())))
	})
	return s
}

// Open implements link.Session. It never blocks.
func (s *Session) Open(ctx context.Context) (link.Stream, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	q, err := s.conn.OpenStream()
	if _, full := errors.AsType[*quic.StreamLimitReachedError](err); full {
		return nil, link.ErrStreamLimit
	}
	if err != nil {
		return nil, s.lost(err)
	}
	return s.begin(q)
}

// Accept implements link.Session. QUIC itself keeps the peer within Config.MaxStreams.
func (s *Session) Accept(ctx context.Context) (link.Stream, error) {
	q, err := s.conn.AcceptStream(ctx)
	switch {
	case err == nil:
		return s.begin(q)
	case ctx.Err() != nil && s.conn.Context().Err() == nil:
		return nil, context.Cause(ctx)
	}
	return nil, s.lost(err)
}

func (s *Session) begin(q *quic.Stream) (link.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.streams++
	if !s.began {
		s.began = true
		q.SetPriority(0, true) // the control stream: pings do not queue behind bulk
	}
	st := &Stream{session: s, q: q}
	q.SetReceiveFinalSizeCallback(func(int64) { st.finalKnown.Store(true) })
	s.running.Add(1)
	context.AfterFunc(q.Context(), func() {
		defer s.running.Done()
		st.sendingEnded(context.Cause(q.Context()))
	})
	return st, nil
}

func (s *Session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
}

// Close implements link.Session. The peer is told the beginning of cause.
func (s *Session) Close(because error) {
	s.fail(because)
	s.closing.Do(func() {
		code, reason := quic.ApplicationErrorCode(codeClosed), "closed"
		if because != nil {
			code, reason = codeFault, because.Error()
		}
		_ = s.conn.CloseWithError(code, strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")) // returns nil only
		s.running.Wait()
		if s.release != nil {
			s.release()
		}
	})
}

// fail ends the session for its callers. The first cause stays.
func (s *Session) fail(because error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = &link.LostError{Cause: because}
	close(s.done)
}

// lost returns the session's error after one of the connection's, which may be seen before the session ends.
func (s *Session) lost(err error) error {
	s.fail(cause(err))
	return s.Err()
}

// cause names what a peer did that no honest one does.
func cause(err error) error {
	t, ok := errors.AsType[*quic.TransportError](err)
	if ok && !t.Remote && (t.ErrorCode == quic.FlowControlError || t.ErrorCode == quic.StreamLimitError) {
		return fmt.Errorf("%w: %w", link.ErrPeerFlooded, err)
	}
	return err
}

// Done implements link.Session.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err implements link.Session.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stats implements link.Measured. quic-go's controller is Reno, on CUBIC's frame.
func (s *Session) Stats() link.Stats {
	q := s.conn.ConnectionStats()
	return link.Stats{
		RTT: q.SmoothedRTT, SentBytes: q.BytesSent, ReceivedBytes: q.BytesReceived,
		LostPackets: q.PacketsLost, SentPackets: q.PacketsSent, Congestion: "quic/reno",
	}
}

// Buffers says what the kernel gave the socket that Dial opened. Of a connection that was accepted it says nothing: the
// listener's Socket does.
func (s *Session) Buffers() Buffers { return s.buffers }

// Received implements link.Session. It counts UDP payload as it arrives, before it is decrypted: someone on the path who
// replays packets can keep a dead link looking alive, and does no more harm than by cutting it.
func (s *Session) Received() uint64 { return s.conn.ConnectionStats().BytesReceived }

// Streams implements link.Session.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0
	}
	return s.streams
}

// Info implements link.Session.
func (s *Session) Info() link.Info { return s.info }
