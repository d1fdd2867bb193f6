// Package link defines a link: one authenticated connection between an agent and a relay, which carries many streams,
// each of them one call. The transports in the folders below implement Session and Stream, and linktest holds the
// promises that all of them keep.
//
// It does not dial, authenticate or speak the messages of package protocol.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Session is one link's streams. Both ends may open streams. Its methods are safe for concurrent use.
type Session interface {
	// Open opens a stream without waiting for the peer. It blocks only while the link's own queue is full, until
	// ctx ends. It fails with ErrStreamLimit when this side has as many streams open as the peer admits, and with
	// an error wrapping ErrLost once the session has ended.
	Open(ctx context.Context) (Stream, error)

	// Accept waits for the next stream that the peer opens, until ctx ends. Streams beyond Config.MaxStreams are
	// reset with the code of Config.StreamLimitCode and never returned.
	Accept(ctx context.Context) (Stream, error)

	// Close ends the link at once, and with it every stream: their calls return an error that wraps ErrLost and
	// cause. It returns when every goroutine of the session has ended. A nil cause is an orderly end. Later calls
	// do nothing.
	Close(cause error)

	// Done is closed when the session has ended, by either side or by a fault.
	Done() <-chan struct{}

	// Err returns nil while the session lives, and after it an error that wraps ErrLost and says why.
	Err() error

	// Received counts the bytes that have arrived from the peer, of whatever kind: any growth proves it alive.
	Received() uint64

	// Streams counts the streams open now, the control stream included.
	Streams() int

	Info() Info
}

// Info describes a link; it does not change while the link lives.
type Info struct {
	Transport     string // "tcp", "quic" or "memory": a metric label
	Local, Remote net.Addr
	TLS           tls.ConnectionState // zero for a link in memory
}

// A Stream is an ordered, reliable pair of byte directions. Read and Write may run concurrently with each other and
// with every other method; no two Reads, and no two Writes, at once.
type Stream interface {
	// Read returns io.EOF only after the peer's CloseWrite, and only once everything before it was read. A peer's
	// Reset is a *ResetError, at once, whatever was still to be read. The end of the link wraps ErrLost. A cut is
	// therefore never mistaken for an end.
	io.Reader

	// Write blocks while the peer does not take more (back-pressure), and does not keep p. It fails with a
	// *ResetError after a reset by either side, with net.ErrClosed after CloseWrite.
	io.Writer

	// CloseWrite says that no more bytes follow; reading goes on.
	CloseWrite() error

	// Reset ends both directions at once and drops what is queued. The peer's pending and later calls return a
	// *ResetError with the code. After both directions have ended, or a reset, it does nothing.
	Reset(code uint16)

	// Close releases the stream: quietly where the peer has ended its direction (what was written is still
	// delivered, and an end follows it), as Reset(CodeCanceled) otherwise. Later calls do nothing.
	Close() error

	// The deadlines are as in net.Conn: a call past one fails with os.ErrDeadlineExceeded; a later deadline
	// revives the stream.
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// A ChunkWriter is a Stream that takes its bytes in a buffer with room for a chunk's header in front, so that nobody
// needs to copy them.
type ChunkWriter interface {
	// WriteChunk writes b[ChunkHeaderSize:], at most MaxChunk bytes, as Write does, and may overwrite what stands in
	// front of it.
	WriteChunk(b []byte) (int, error)
	MaxChunk() int
}

// A Finisher is a Stream that can say its end together with its last bytes, and knows whether its peer has.
type Finisher interface {
	// Finish is Write and then CloseWrite, in one go where the link can.
	Finish(p []byte) (int, error)
	// Ended reports, without waiting, that the next Read returns io.EOF.
	Ended() bool
	// CloseSoon is CloseWrite for a stream whose peer has ended and waits for nothing: the end may leave together
	// with what the link sends next, a second later at most.
	CloseSoon() error
}

// Finish is Write and then CloseWrite, in one go where st can.
func Finish(st Stream, p []byte) (int, error) {
	if f, ok := st.(Finisher); ok {
		return f.Finish(p)
	}
	n, err := st.Write(p)
	if err == nil {
		err = st.CloseWrite()
	}
	return n, err
}

// CodeCanceled is the code of a reset that is no fault: protocol.Canceled.
const CodeCanceled = 96

// ErrLost is wrapped by every error that the end of a link causes.
var ErrLost = errors.New("link lost")

// ErrStreamLimit says that the peer admits no more streams on this link now.
var ErrStreamLimit = errors.New("no more streams admitted on this link")

// ErrPeerFlooded is the cause of a session's end whose peer sent more than it was allowed to.
var ErrPeerFlooded = errors.New("peer exceeded its window")

// LostError says why a link ended.
type LostError struct{ Cause error }

func (e *LostError) Error() string {
	if e.Cause == nil {
		return "link lost: closed"
	}
	return "link lost: " + e.Cause.Error()
}

// Unwrap makes errors.Is find ErrLost, net.ErrClosed and the cause.
func (e *LostError) Unwrap() []error { return []error{ErrLost, net.ErrClosed, e.Cause} }

// ResetError says that a stream was reset.
type ResetError struct {
	Code  uint16
	Local bool // by this side
}

func (e *ResetError) Error() string {
	if e.Local {
		return fmt.Sprintf("stream reset by this side with code %d", e.Code)
	}
	return fmt.Sprintf("stream reset by the peer with code %d", e.Code)
}

// Unwrap makes a local reset look like a closed connection to net/http.
func (e *ResetError) Unwrap() error {
	if e.Local {
		return net.ErrClosed
	}
	return nil
}

// Config bounds a session. The zero value of each field means its default.
type Config struct {
	MaxStreams      int    // streams that the peer may have open at once; default 2,000
	StreamLimitCode uint16 // the code for streams beyond; default 19 (protocol.StreamLimit)
	InitialWindow   int    // bytes a new stream may receive unread; default 256 KiB
	MaxWindow       int    // what a busy stream's window may grow to; default 16 MiB
	Budget          int    // bytes by which all windows of the session may grow together; default 64 MiB
}

// WithDefaults returns c with every zero field set to its default.
func (c Config) WithDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxStreams, 2000)
	def(&c.InitialWindow, 256<<10)
	def(&c.MaxWindow, 16<<20)
	def(&c.Budget, 64<<20)
	if c.StreamLimitCode == 0 {
		c.StreamLimitCode = 19
	}
	return c
}
