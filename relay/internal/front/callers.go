package front

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// callers is the listener of the callers' HTTP server: connections whose handshake is done. It hands out bare
// *tls.Conn, since net/http speaks HTTP/2 on nothing else.
type callers struct {
	conns chan *tls.Conn
	done  chan struct{}
	close func()
}

func newCallers() *callers {
	l := &callers{conns: make(chan *tls.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	return l
}

// hand gives t to the server, or closes it when there is none any more.
func (l *callers) hand(t *tls.Conn) {
	select {
	case l.conns <- t:
	case <-l.done:
		t.NetConn().(*conn).release(true) // not its fault
		_ = t.Close()
	}
}

func (l *callers) Accept() (net.Conn, error) {
	select {
	case t := <-l.conns:
		return t, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *callers) Close() error   { l.close(); return nil }
func (l *callers) Addr() net.Addr { return &net.TCPAddr{} }

const maxStreams = 250 // concurrent requests on one HTTP/2 or HTTP/3 connection of a caller

func (f *Front) newHTTP1() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	altSvc := fmt.Sprintf(`h3=":%d"; ma=86400`, f.Addr().Port())
	return &http.Server{
		Handler: f.counted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Alt-Svc", altSvc)
			f.cfg.Caller.ServeHTTP(w, r)
		})),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: f.cfg.HeaderTimeout,
		IdleTimeout:       f.cfg.IdleTimeout,
		MaxHeaderBytes:    f.cfg.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug), // strangers cause its lines at will
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			t := c.(*tls.Conn)
			under := t.NetConn().(*conn)
			return withProof(ctx, t.ConnectionState().PeerCertificates, under.source, under.release)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				c.(*tls.Conn).NetConn().(*conn).release(false) // nothing, where it proved itself
			}
		},
	}
}

func (f *Front) newHTTP3(port int) *http3.Server {
	return &http3.Server{
		Handler:        f.counted(f.cfg.Caller),
		Port:           port,
		MaxHeaderBytes: f.cfg.HeaderBytes,
		IdleTimeout:    f.cfg.IdleTimeout,
		Logger:         slog.New(slog.DiscardHandler), // strangers cause its lines at will
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			guest := guestOf(c)
			return withProof(ctx, c.ConnectionState().TLS.PeerCertificates, guest.source, guest.release)
		},
	}
}

// counted lets drain wait for requests, hijacked ones included.
func (f *Front) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.calls.Add(1)
		defer f.calls.Add(-1)
		next.ServeHTTP(w, r)
	})
}
