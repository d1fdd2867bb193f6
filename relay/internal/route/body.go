package route

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// keep is how much of a request's body is kept so that the call can be tried again: design §5's 64 KiB.
const keep = 64 << 10

var errOldBody = errors.New("request body belongs to a later try")

// BodyError says that the caller's own body could not be read: it is the caller's fault, or the caller is gone.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "reading the request body: " + e.Err.Error() }

// Unwrap gives the reader's error, such as *http.MaxBytesError.
func (e *BodyError) Unwrap() error { return e.Err }

// body is a request's body that can be begun again as long as no more than its first 64 KiB were read.
type body struct {
	// pull is held while src is read, so that a try which is over and still blocked in there loses no byte: it puts
	// them into kept, where the next try finds them.
	pull sync.Mutex
	src  io.ReadCloser

	// mu guards: everything below. Never held while src is read; pull is taken first.
	mu   sync.Mutex
	kept []byte
	long bool  // more than kept was read: it cannot begin again
	err  error // what src ended with
	try  int
}

func newBody(src io.ReadCloser) *body { return &body{src: src} }

// reader begins the body, again or for the first time. It returns false where that is no longer possible.
func (b *body) reader() (io.ReadCloser, bool) {
	if b.src == nil || b.src == http.NoBody {
		return b.src, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.long {
		return nil, false
	}
	b.try++
	return &bodyReader{body: b, try: b.try}, true
}

// whole reports whether everything that the caller sends is in kept.
func (b *body) whole() bool {
	if b.src == nil || b.src == http.NoBody {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.long && errors.Is(b.err, io.EOF)
}

// failure returns the caller's fault, nil while there is none.
func (b *body) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || errors.Is(b.err, io.EOF) {
		return nil
	}
	return &BodyError{Err: b.err}
}

// bodyReader is one try's view. Read is for one goroutine at a time.
type bodyReader struct {
	body *body
	try  int
	off  int // into kept
}

func (v *bodyReader) Read(p []byte) (int, error) {
	if n, err := v.fromKept(p); n > 0 || err != nil || len(p) == 0 {
		return n, err
	}
	b := v.body
	b.pull.Lock()
	defer b.pull.Unlock()
	if n, err := v.fromKept(p); n > 0 || err != nil { // an older try was in there, and has put something into kept
		return n, err
	}
	room, err := v.room()
	if err != nil {
		return 0, err
	}
	if room > 0 {
		p = p[:min(len(p), room)]
	}
	n, err := b.src.Read(p)
	return v.took(p[:n], room > 0, err)
}

// fromKept serves what was read before.
func (v *bodyReader) fromKept(p []byte) (int, error) {
	b := v.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.try != b.try {
		return 0, errOldBody
	}
	if v.off < len(b.kept) {
		n := copy(p, b.kept[v.off:])
		v.off += n
		return n, nil
	}
	return 0, b.err
}

// room is how much may still be kept. Once the body is too long to begin again that is nothing, and kept, which this
// try has read to its end, is dropped.
func (v *bodyReader) room() (int, error) {
	b := v.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.try != b.try {
		return 0, errOldBody
	}
	if b.long {
		b.kept, v.off = nil, 0
		return 0, nil
	}
	return keep + 1 - len(b.kept), nil // one more, to tell a body that ends here from one that does not
}

// took keeps what src gave, whether or not a later try has begun meanwhile.
func (v *bodyReader) took(p []byte, kept bool, err error) (int, error) {
	b := v.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.err = err
	}
	if kept {
		b.kept = append(b.kept, p...)
		b.long = len(b.kept) > keep
		v.off += len(p)
	}
	if v.try != b.try {
		return 0, errOldBody
	}
	return len(p), err
}

// Close leaves the caller's body alone: it belongs to the server that made it.
func (v *bodyReader) Close() error { return nil }
