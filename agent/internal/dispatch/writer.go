package dispatch

import (
	"bufio"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// responseWriter is net/http's, kept from adding to a response what the backend did not say, and from writing small
// responses in two pieces.
type responseWriter struct {
	http.ResponseWriter
	x *exchange

	length, written int64 // length is -1 where the response announces none
	final           bool
}

func (w *responseWriter) WriteHeader(status int) {
	h := w.Header()
	if status < 200 {
		if status == http.StatusContinue {
			// The server says it itself when the transport begins to read the body, which is when the backend has said
			// so. Passed on from here it would race with that one, and come twice; unasked it concerns nobody.
			return
		}
		removeHopByHop(h)
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.final = true
	// A nil value keeps net/http from making one up.
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
	if v := h["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil {
			w.length = n
		}
	}
	w.x.answering(h)
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// FlushError leaves the last flush of a response to the server, which follows at once.
func (w *responseWriter) FlushError() error {
	if w.final && w.written == w.length {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack is called when the backend has agreed to an upgrade.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, brw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.x.upgrade()
	}
	return c, brw, err
}

// removeHopByHop removes what concerns one connection only, from an informational response: the proxy does so for
// final ones.
func removeHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
}
