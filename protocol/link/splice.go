package link

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// A Duplex is what Splice joins: a Stream, a *net.TCPConn, a *net.UnixConn, a *tls.Conn.
type Duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Splice carries bytes between a and b, both ways, until both have ended, and returns how many went each way. The end
// of one direction is passed on as a half-close, while the other goes on. An error on either, or the end of ctx,
// aborts both, so that neither peer takes the cut for an end: a Stream by a reset (with the code that arrived, where
// a reset was the reason, else CodeCanceled), a TCP connection by RST.
//
// It returns nil after two clean ends, context.Cause(ctx) when ctx ended first, else the first error. Both copies have
// ended by then. The caller closes a and b.
func Splice(ctx context.Context, a, b Duplex) (aToB, bToA int64, err error) {
	var (
		once  sync.Once
		first error
		wg    sync.WaitGroup
	)
	fail := func(cause error) {
		once.Do(func() {
			first = cause
			code := resetCode(cause)
			abort(a, code)
			abort(b, code)
		})
	}
	stop := context.AfterFunc(ctx, func() { fail(context.Cause(ctx)) })
	carry := func(dst, src Duplex, n *int64) {
		var err error
		if *n, err = copyBytes(dst, src); err == nil {
			err = dst.CloseWrite()
		}
		if err != nil {
			fail(err)
		}
	}
	wg.Go(func() { carry(b, a, &aToB) })
	wg.Go(func() { carry(a, b, &bToA) })
	wg.Wait()
	stop()
	once.Do(func() {}) // waits for a fail that ctx began, and keeps a later one from touching a and b
	return aToB, bToA, first
}

// copySize is in bytes; two buffers an open call, so they are not larger.
const copySize = 2 * WriteSize

// copyBuffers hold what is on its way through Splice.
var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

func copyBytes(dst io.Writer, src io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	// The bare interfaces hide ReadFrom and WriteTo, which would allocate buffers of their own.
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf[:])
}

func resetCode(cause error) uint16 {
	if reset, ok := errors.AsType[*ResetError](cause); ok {
		return reset.Code
	}
	return CodeCanceled
}

// abort ends d so that its peer sees a fault and not an end. Errors are of no use any more: d is being given up.
func abort(d io.Closer, code uint16) {
	switch t := d.(type) {
	case interface{ Reset(code uint16) }:
		t.Reset(code)
		return
	case interface{ NetConn() net.Conn }: // TLS: its own Close would send close_notify, which says "the end"
		abort(t.NetConn(), code)
		return
	case interface{ SetLinger(sec int) error }: // TCP: makes Close send RST
		_ = t.SetLinger(0)
	}
	_ = d.Close()
}
