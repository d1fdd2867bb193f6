package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// halfCloser is a connection that can end one direction: *tls.Conn, *net.TCPConn, *net.UnixConn.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// h1Caller is a connection taken over from net/http; bytes that came early wait in its reader.
type h1Caller struct {
	halfCloser
	early *bufio.Reader
}

// newH1Caller takes back the deadlines that net/http had set.
func newH1Caller(conn net.Conn, early *bufio.Reader) (*h1Caller, error) {
	half, ok := conn.(halfCloser)
	if !ok {
		return nil, fmt.Errorf("expected a connection that can end one direction, got %T", conn)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("taking back the deadlines: %w", err)
	}
	return &h1Caller{halfCloser: half, early: early}, nil
}

func (c *h1Caller) Read(p []byte) (int, error) {
	if n := c.early.Buffered(); n > 0 {
		return c.early.Read(p[:min(n, len(p))])
	}
	return c.halfCloser.Read(p)
}

// NetConn is the connection below TLS, which link.Splice cuts so that nobody takes the cut for an end; where there is
// no TLS it is the connection.
func (c *h1Caller) NetConn() net.Conn {
	if t, ok := c.halfCloser.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c.halfCloser
}

// h2Caller is a CONNECT stream of net/http's HTTP/2 server. Its server cannot end one direction: the end goes out
// when the handler returns. So the backend's end is the end of both; the caller's is passed on.
type h2Caller struct {
	body    io.ReadCloser
	w       http.ResponseWriter
	control *http.ResponseController
	ended   atomic.Bool
}

func (c *h2Caller) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	if err != nil && c.ended.Load() {
		err = io.EOF
	}
	return n, err
}

func (c *h2Caller) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err == nil {
		err = c.control.Flush()
	}
	return n, err
}

// CloseWrite makes Read end, so that the handler returns.
func (c *h2Caller) CloseWrite() error {
	c.ended.Store(true)
	return c.body.Close()
}

// Reset makes Read and Write fail. A write deadline that passes is how net/http resets a stream.
func (c *h2Caller) Reset(uint16) {
	_ = c.body.Close()
	_ = c.control.SetWriteDeadline(time.Unix(1, 0))
}

// Close does nothing: the handler's return is the close.
func (c *h2Caller) Close() error { return nil }
