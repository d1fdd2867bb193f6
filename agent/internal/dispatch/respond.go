package dispatch

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// copyBuffers are for bodies on their way to the relay.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// writeHeader puts a response's header into bw, behind Opened. The caller holds writeMu. bw keeps an error.
func (x *exchange) writeHeader(status int, h http.Header) {
	if !x.begun {
		x.begun = true
		_, _ = x.bw.Write(openedOK)
	}
	_, _ = x.bw.WriteString("HTTP/1.1 ")
	_, _ = x.bw.WriteString(strconv.Itoa(status))
	_ = x.bw.WriteByte(' ')
	_, _ = x.bw.WriteString(http.StatusText(status))
	_, _ = x.bw.WriteString("\r\n")
	_ = h.Write(x.bw)
	_, _ = x.bw.WriteString("\r\n")
}

// inform passes an informational response on, unless the final one has come. net/http calls it in goroutines of its
// own.
func (x *exchange) inform(status int, header http.Header) error {
	h := make(http.Header, len(header))
	passOn(h, header)
	delete(h, "Content-Length")
	x.writeMu.Lock()
	defer x.writeMu.Unlock()
	if x.final {
		return nil
	}
	x.writeHeader(status, h)
	return x.bw.Flush()
}

// flushHeader lets a header go that waits for its body.
func (x *exchange) flushHeader() {
	x.writeMu.Lock()
	defer x.writeMu.Unlock()
	if x.bw != nil {
		_ = x.bw.Flush() // an error is kept by Write
	}
}

// respond passes the final response on: as it comes, and in as few pieces as it comes.
func (x *exchange) respond(r *http.Request, resp *http.Response) {
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		x.stopIdle()
	}
	h := make(http.Header, len(resp.Header)+2)
	passOn(h, resp.Header)
	body := r.Method != http.MethodHead && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified
	chunked := body && (resp.ContentLength < 0 || len(resp.Trailer) > 0)
	switch {
	case chunked:
		delete(h, "Content-Length")
		h["Transfer-Encoding"] = []string{"chunked"}
		for name := range resp.Trailer {
			h.Add("Trailer", name)
		}
	case body:
		// Also where there is none: HTTP/2 has said so with the header, and a gRPC client takes an error whose end
		// comes later for broken.
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	x.writeMu.Lock()
	x.writeHeader(resp.StatusCode, h)
	var err error
	x.last = !body || !chunked && resp.ContentLength == 0
	if x.last || x.headerGoesFirst(resp.Header) {
		err = x.bw.Flush()
	}
	x.writeMu.Unlock()
	if body && err == nil {
		x.copyBody(resp, chunked)
	}
}

// headerGoesFirst reports whether the header must not wait for the first bytes of its body: tick lets it go where the
// backend is quick and its body is not.
func (x *exchange) headerGoesFirst(h http.Header) bool {
	if streams(h) {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.watching || !x.asked
}

// copyBody passes the body on, each piece as it comes; the last one leaves with the end.
func (x *exchange) copyBody(resp *http.Response, chunked bool) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	var to io.Writer = x.bw
	var chunks io.WriteCloser
	if chunked {
		chunks = httputil.NewChunkedWriter(x.bw)
		to = chunks
	}
	for {
		n, err := resp.Body.Read(buf[:])
		if err != nil && err != io.EOF {
			x.fail(x.brokeOff(err))
			return
		}
		x.writeMu.Lock()
		if n > 0 {
			_, _ = to.Write(buf[:n]) // bw keeps an error
		}
		if err == io.EOF && chunked {
			_ = chunks.Close()
			_ = resp.Trailer.Write(x.bw)
			_, _ = x.bw.WriteString("\r\n")
		}
		x.last = err == io.EOF
		broken := x.bw.Flush()
		x.writeMu.Unlock()
		if err != nil || broken != nil {
			return
		}
	}
}

// switchProtocols carries the bytes behind a 101 both ways.
func (x *exchange) switchProtocols(r *http.Request, resp *http.Response) {
	defer resp.Body.Close()
	backend, ok := resp.Body.(link.Duplex)
	to := upgrade(resp.Header)
	if !ok || to == "" || !strings.EqualFold(to, upgrade(r.Header)) {
		x.fail(proxyError(errUnasked))
		return
	}
	x.stopIdle()
	x.retire()
	_ = x.stream.SetReadDeadline(time.Time{}) // fails only where the next Read fails too
	h := make(http.Header, len(resp.Header)+2)
	passOn(h, resp.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{to}
	x.writeMu.Lock()
	x.writeHeader(resp.StatusCode, h)
	err := x.bw.Flush()
	x.writeMu.Unlock()
	if err == nil {
		_, _, _ = link.Splice(x.ctx, &upgraded{x: x, early: x.br}, backend) // upgraded says how it ended
	}
}

var errUnasked = errors.New("expected no switch of protocols, or the one that was asked for")

// upgraded is the relay's end of an upgraded connection.
type upgraded struct {
	x     *exchange
	early *bufio.Reader // what was read with the header is in it
	ended atomic.Bool   // the backend has ended its direction: the call is whole
}

func (u *upgraded) Read(p []byte) (int, error) {
	if n := u.early.Buffered(); n > 0 {
		return u.early.Read(p[:min(n, len(p))])
	}
	return u.x.Read(p)
}

func (u *upgraded) Write(p []byte) (int, error) { return u.x.Write(p) }

// CloseWrite passes the backend's end on, and gives the peer a time for its own.
func (u *upgraded) CloseWrite() error {
	u.ended.Store(true)
	_ = u.x.stream.SetReadDeadline(time.Now().Add(drainTimeout)) // fails only on a stream that is gone
	return u.x.stream.CloseWrite()
}

// Reset is how Splice ends a connection that has broken off.
func (u *upgraded) Reset(uint16) {
	if u.ended.Load() {
		u.x.stream.Reset(link.CodeCanceled)
		return
	}
	e := endCause(u.x.ctx)
	if e == nil {
		e = &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the upgraded connection to the backend broke off", Sent: true}
	}
	u.x.interrupt(e)
}

// Close does nothing: the stream is released where the call ends.
func (u *upgraded) Close() error { return nil }
