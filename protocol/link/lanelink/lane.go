package lanelink

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

var (
	errPeerEnded = errors.New("the peer ended the lane")
	errSilent    = errors.New("the peer's system acknowledges nothing")
)

// past is a deadline that ends a pending call.
var past = time.Unix(1, 0)

// Lane is one connection of a session.
type Lane struct {
	session *Session
	conn    net.Conn // TLS
	sock    *socket.Conn
	opens   bool
	info    link.Info
	done    chan struct{}
	current atomic.Pointer[Stream]
	freed   chan struct{} // gets a token when the peer's stream has ended and the lane is free

	heard func(note []byte) // of the peer's notes

	idleSince time.Time // guarded by session.mu

	read  sync.Mutex // held by whoever reads the connection; guards in
	in    reader
	write sync.Mutex // held by whoever writes to it

	noting atomic.Bool // write is held by Say

	buried  atomic.Bool
	tired   atomic.Bool // worn: it is not used again
	endOnce sync.Once
	err     error      // set before done is closed
	last    link.Stats // as they were at the end; set with err
}

// Done is closed when the lane has ended.
func (l *Lane) Done() <-chan struct{} { return l.done }

// Busy reports whether the lane carries a stream.
func (l *Lane) Busy() bool { return l.current.Load() != nil }

// Close ends the lane, and the stream on it with an error that wraps cause.
func (l *Lane) Close(cause error) { l.end(cause) }

// end ends the lane at once. It waits for nobody.
func (l *Lane) end(cause error) {
	l.endOnce.Do(func() {
		if state, ok := socket.Ask(l.sock); ok {
			l.last = state.Stats
		}
		l.err = &link.LostError{Cause: cause}
		close(l.done)
		if st := l.current.Load(); st != nil && st.abort(l.err) {
			_ = l.sock.SetLinger(0) // the peer is to hear of it whatever it has still to read
		}
		_ = l.sock.Close()
	})
	l.session.gone(l, cause)
}

// serve waits for the streams that the peer begins, one after the other, until the lane ends.
func (l *Lane) serve() {
	for {
		l.read.Lock()
		err := l.in.next(l)
		kind := l.in.kind
		l.read.Unlock()
		if err == nil && kind == chunkNote {
			continue // its sender took the lane for busy
		}
		if err != nil && l.buried.Load() {
			return // bury interrupted the wait, and ends the lane once the peer has heard why
		}
		if err != nil || kind == link.ChunkReset { // a reset of a stream that was never begun
			l.end(cutCause(err))
			return
		}
		st := newStream(l)
		st.heard.Store(true)
		if kind == link.ChunkEnd {
			st.receiveEnd(l.in.read)
		}
		code, ok := l.session.admit(st)
		if !ok {
			st.Reset(code)
		}
		if l.isDone() { // it ended before it could see the stream
			st.abort(l.err)
		}
		if serve := l.session.cfg.Serve; serve != nil && ok {
			serve(st)
		}
		select {
		case <-l.freed:
		case <-l.done:
			return
		}
		switch code := l.session.drains(); {
		case code != 0:
			l.bury(code)
		case l.tired.Load():
			l.bury(l.session.cfg.StreamLimitCode)
		}
	}
}

// worn reports whether a new connection would be faster.
func (l *Lane) worn() bool {
	state, ok := socket.Ask(l.sock)
	return ok && state.Worn
}

// untouched reports whether nobody reads the lane, and nothing was read: a Read that waits would take the bytes of the
// next stream. The stream has its error already, so that no Read begins any more.
func (l *Lane) untouched() bool {
	if !l.read.TryLock() {
		return false
	}
	defer l.read.Unlock()
	return l.in.have == 0 && l.in.left == 0
}

func (l *Lane) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// bury ends the lane so that the peer hears why: whatever waits is interrupted, and the reset is sent. What the peer
// still sends is not read, so that it stops. The connection ends when the peer has ended it, or after burialTime.
func (l *Lane) bury(code uint16) {
	if l.buried.Swap(true) {
		return
	}
	l.session.spawn(func() {
		_ = l.sock.SetDeadline(past)
		deadline := time.Now().Add(burialTime)
		l.write.Lock()
		_ = l.sock.SetWriteDeadline(deadline)
		_, err := l.conn.Write(link.AppendReset(nil, code))
		if err == nil {
			err = l.sock.Flush()
		}
		if err == nil {
			_ = l.sock.CloseWrite()
		}
		l.write.Unlock()
		for err == nil && time.Now().Before(deadline) && !l.isDone() {
			time.Sleep(burialTime / 50)
			if state, ok := socket.Ask(l.sock); ok && state.Ended {
				break
			}
		}
		if l.current.Load() != nil {
			_ = l.sock.SetLinger(0) // a peer that reads nothing is to hear of it from its system
		}
		l.end(nil)
	})
}

// leave ends a lane whose streams have ended well, but whose peer has still to read, or which is worn: behind what it was
// sent the peer finds the end of the connection.
func (l *Lane) leave() {
	l.session.spawn(func() {
		l.write.Lock()
		_ = l.sock.Flush() // of an end that was to leave with the next stream; an error is the Read's too
		_ = l.sock.CloseWrite()
		l.write.Unlock()
		l.read.Lock()
		defer l.read.Unlock()
		var b [1]byte
		_, err := l.conn.Read(b[:]) // the peer says nothing any more, and ends when it has read
		l.end(cutCause(err))
	})
}

// flushed sends an end that waited for the next stream's first bytes; false where the lane is broken. The lane is idle,
// and session.mu held, so that it stays so.
func (l *Lane) flushed() bool {
	if !l.write.TryLock() {
		return true
	}
	defer l.write.Unlock()
	_, err := l.sock.TryFlush()
	return err == nil
}

// look ends a busy lane whose peer is gone or silent. A peer may end the connection behind its end, once it has read
// ours: then what it sent is still to be read here, however late. What the opener sent counts until its system says that
// it has gone.
func (l *Lane) look() {
	st := l.current.Load()
	if st == nil {
		return
	}
	state, ok := socket.Ask(l.sock)
	switch {
	case !ok:
	case state.Silence >= l.session.cfg.DeadAfter:
		l.end(errSilent)
	case state.Ended && st.speaks(), state.Gone && !l.opens:
		l.session.spawn(func() { st.peerGone(errPeerEnded) })
	}
}

// readConn reads from the connection and counts. l.read is held.
func (l *Lane) readConn(p []byte) (int, error) {
	n, err := l.conn.Read(p)
	if n > 0 {
		l.session.received.Add(uint64(n))
		err = nil // it comes again
	}
	return n, err
}

// cutCause says what the end of a connection means: never io.EOF, which could pass for the end of a stream.
func cutCause(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errPeerEnded
	}
	return err
}
