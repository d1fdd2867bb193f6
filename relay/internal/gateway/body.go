package gateway

import (
	"io"
	"net/http"
	"time"
)

// The least rate of a body whose length was announced: whoever knows how much it has can also send it. A body of
// unknown length may be a stream that waits.
const (
	bodyRate  = 1 << 10 // bytes a second
	bodyGrace = 10 * time.Second
)

// limitBody bounds a request's body in size (zero: none) and slowness.
func limitBody(w http.ResponseWriter, control *http.ResponseController, r *http.Request, limit int64) io.ReadCloser {
	body := r.Body
	if r.ContentLength > 0 {
		body = &steadyBody{ReadCloser: body, control: control}
	}
	if limit > 0 {
		body = http.MaxBytesReader(w, body, limit)
	}
	return body
}

// steadyBody counts only the time that it waits for the caller, so that a slow backend is not the caller's fault.
type steadyBody struct {
	io.ReadCloser
	control *http.ResponseController
	got     int64
	waited  time.Duration
}

// Read fails with os.ErrDeadlineExceeded where the body came too slowly.
func (b *steadyBody) Read(p []byte) (int, error) {
	began := time.Now()
	allowed := bodyGrace + time.Duration(b.got)*time.Second/bodyRate
	_ = b.control.SetReadDeadline(began.Add(allowed - b.waited))
	n, err := b.ReadCloser.Read(p)
	// Taken back at once: net/http goes on reading the connection, to notice that the caller has gone.
	_ = b.control.SetReadDeadline(time.Time{})
	b.got += int64(n)
	b.waited += time.Since(began)
	return n, err
}
