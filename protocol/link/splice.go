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
	for _, d := range []Duplex{a, b} { // which both copies may not notice, stuck in a Write to the other one
		if s, ok := d.(Breaker); ok {
			s.OnBreak(fail)
			defer s.OnBreak(nil)
		}
	}
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
	carry(a, b, &bToA)
	wg.Wait()
	stop()
	once.Do(func() {}) // waits for a fail that ctx began, and keeps a later one from touching a and b
	return aToB, bToA, first
}

// A direction starts, and rests, with the small buffer: an idle call must not hold much. While it is busy it has the
// large one.
const (
	smallCopy = 2 << 10
	largeCopy = ChunkHeaderSize + MaxChunkData
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallCopy]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeCopy]byte) }}
)

// copyBytes is io.Copy with buffers that fit what comes, and without a copy where dst is a ChunkWriter.
func copyBytes(dst io.Writer, src io.Reader) (total int64, err error) {
	write, most := chunksOf(dst)
	small := smallBuffers.Get().(*[smallCopy]byte)
	defer smallBuffers.Put(small)
	for {
		n, err := copyOnce(write, src, small[:])
		total += int64(n)
		if err == nil && n == smallCopy-ChunkHeaderSize {
			n, err = copyMany(write, src, most)
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// copyMany copies with the large buffer while much comes at a time.
func copyMany(write func(b []byte) (int, error), src io.Reader, most int) (total int, err error) {
	large := largeBuffers.Get().(*[largeCopy]byte)
	defer largeBuffers.Put(large)
	for {
		n, err := copyOnce(write, src, large[:min(largeCopy, ChunkHeaderSize+most)])
		total += n
		if err != nil || n < smallCopy {
			return total, err
		}
	}
}

// copyOnce copies what one Read brings. io.EOF is the source's end, and no error of the destination's.
func copyOnce(write func(b []byte) (int, error), src io.Reader, buf []byte) (int, error) {
	n, readErr := src.Read(buf[ChunkHeaderSize:])
	if n > 0 {
		k, err := write(buf[:ChunkHeaderSize+n])
		if err == nil && k < n {
			err = io.ErrShortWrite
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return k, err
		}
	}
	return n, readErr
}

// chunksOf returns how dst is written to from a buffer with room for a chunk's header, and how much it takes at once.
func chunksOf(dst io.Writer) (write func(b []byte) (int, error), most int) {
	if c, ok := dst.(ChunkWriter); ok {
		return c.WriteChunk, c.MaxChunk()
	}
	return func(b []byte) (int, error) { return dst.Write(b[ChunkHeaderSize:]) }, MaxChunkData
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
