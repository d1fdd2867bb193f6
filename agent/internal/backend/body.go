package backend

import (
	"io"
	"net/http"
	"sync"
)

// requestBody is a request's body under watch: it remembers whether it was read and how that ended, so that a
// failure of the caller's side is not blamed on the backend. A nil source was never read.
type requestBody struct {
	src io.Reader

	mu   sync.Mutex // guards:
	read bool
	err  error
	done bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	done := b.done
	b.read = true
	b.mu.Unlock()
	if done {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.src.Read(p)
	if err != nil && err != io.EOF {
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	}
	return n, err
}

// Close leaves the source open: it belongs to whoever gave the request, and a second try may still need it.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	return nil
}

// emptyBody is no body that net/http does not take for none: with http.NoBody it would repeat the request.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// WriteTo spares io.Copy its buffer.
func (emptyBody) WriteTo(io.Writer) (int64, error) { return 0, nil }

func (b *requestBody) touched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// failed returns the error that reading the source ended with, if it was not its end.
func (b *requestBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
