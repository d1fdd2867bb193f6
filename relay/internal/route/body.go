package route

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// keep is how much of a request's body is kept so that the call can be tried again: design §5's 64 KiB.
	keep = 64 << 10
	// pullSize is how much is asked of the caller's server at a time.
	pullSize = 32 << 10
)

var errOldBody = errors.New("request body is not wanted by this try any more")

// BodyError says that the caller's own body could not be read: it is the caller's fault, or the caller is gone.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "reading the request body: " + e.Err.Error() }

// Unwrap gives the reader's error, such as *http.MaxBytesError.
func (e *BodyError) Unwrap() error { return e.Err }

// body is a request's body that can be begun again as long as no more than its first 64 KiB were read. A nil one is a
// request's that has none.
//
// A read of the caller's body cannot be interrupted without spoiling it. So the reads are made by goroutines of their own, one at a time: a try that is over lets go
// of its read at once, and the next try finds what that read brings. The last one ends with the caller's handler, when
// the server closes the body.
type body struct {
	src  io.ReadCloser
	size int // of a pull

	// mu guards: everything below.
	mu      sync.Mutex
	buf     []byte // of the pull that runs, or holds next
	pulling bool
	changed chan struct{} // closed when a pull has ended
	kept    []byte
	next    []byte // behind kept, once the body is long
	long    bool   // more than keep was read: it cannot begin again
	err     error  // what src ended with
	try     int
}

// newBody takes a request's body, of length bytes where that is known.
func newBody(src io.ReadCloser, length int64) *body {
	if src == nil || src == http.NoBody {
		return nil
	}
	size := pullSize
	if length > 0 {
		size = int(min(length, pullSize))
	}
	return &body{src: src, size: size, changed: make(chan struct{})}
}

// reader begins the body, again or for the first time. It returns false where that is no longer possible, and nil
// where there is no body.
func (b *body) reader() (*bodyReader, bool) {
	if b == nil {
		return nil, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.long {
		return nil, false
	}
	b.try++
	return &bodyReader{body: b, try: b.try, over: make(chan struct{})}, true
}

// whole reports whether everything that the caller sends is in kept.
func (b *body) whole() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.long && errors.Is(b.err, io.EOF)
}

// failure returns the caller's fault, nil while there is none.
func (b *body) failure() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || errors.Is(b.err, io.EOF) {
		return nil
	}
	return &BodyError{Err: b.err}
}

// pull reads once.
func (b *body) pull() {
	n, err := b.src.Read(b.buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.long:
		b.next = b.buf[:n]
	case b.kept == nil: // usually all of it
		b.kept, b.buf = b.buf[:n:n], nil
	default:
		b.kept = append(b.kept, b.buf[:n]...)
		b.long = len(b.kept) > keep
	}
	if err != nil {
		b.err = err
	}
	b.pulling = false
	close(b.changed)
	b.changed = make(chan struct{})
}

// take copies what is there for v. Where nothing is, it has a pull run and returns what to wait for.
func (b *body) take(v *bodyReader, p []byte) (n int, wait <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case v.try != b.try || v.isOver():
		return 0, nil, errOldBody
	case v.off < len(b.kept):
		n = copy(p, b.kept[v.off:])
		v.off += n
		return n, nil, nil
	case len(b.next) > 0:
		n = copy(p, b.next)
		b.next = b.next[n:]
		return n, nil, nil
	case b.err != nil:
		return 0, nil, b.err
	}
	if b.long { // v has read kept to its end, and no other try will
		b.kept, v.off = nil, 0
	}
	return 0, b.begin(), nil
}

// begin has a pull run, and returns what is closed when it has ended. mu is held.
func (b *body) begin() <-chan struct{} {
	if !b.pulling {
		if b.buf == nil {
			b.buf = make([]byte, b.size)
		}
		b.pulling = true
		go b.pull()
	}
	return b.changed
}

// gather returns a body of at most limit bytes that can be had within d, so that it can be sent with its header;
// false where that is not so, and nothing is lost.
func (v *bodyReader) gather(limit int64, d time.Duration) ([]byte, bool) {
	b := v.body
	var late <-chan time.Time
	for {
		b.mu.Lock()
		switch {
		case errors.Is(b.err, io.EOF) && !b.long && int64(len(b.kept)) <= limit:
			defer b.mu.Unlock()
			v.off = len(b.kept)
			return b.kept, true
		case b.err != nil, int64(len(b.kept)) > limit:
			b.mu.Unlock()
			return nil, false
		}
		changed := b.begin()
		b.mu.Unlock()
		if late == nil {
			clock := time.NewTimer(d)
			defer clock.Stop()
			late = clock.C
		}
		select {
		case <-changed:
		case <-v.over:
			return nil, false
		case <-late:
			return nil, false
		}
	}
}

// bodyReader is one try's view. Read is for one goroutine at a time; the others may be called by any.
type bodyReader struct {
	body *body
	try  int
	off  int // into kept
	over chan struct{}
	once sync.Once
}

// Read returns errOldBody once the try is over.
func (v *bodyReader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		n, wait, err := v.body.take(v, p)
		if wait == nil {
			return n, err
		}
		select {
		case <-wait:
		case <-v.over:
		}
	}
	return 0, nil
}

// abandon ends the try, and a Read that waits.
func (v *bodyReader) abandon() { v.once.Do(func() { close(v.over) }) }

func (v *bodyReader) isOver() bool {
	select {
	case <-v.over:
		return true
	default:
		return false
	}
}

// Close leaves the caller's body alone: it belongs to the server that made it.
func (v *bodyReader) Close() error {
	v.abandon()
	return nil
}
