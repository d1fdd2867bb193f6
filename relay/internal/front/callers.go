package front

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

// maxH2Streams is how many calls one HTTP/2 connection may have open.
const maxH2Streams = 250

// newServers makes the callers' servers.
func (f *Front) newServers() {
	handler := f.calls.track(f.cfg.Caller)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	f.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Alt-Svc", f.altSvc)
			handler.ServeHTTP(w, r)
		}),
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxH2Streams,
			SendPingTimeout:      30 * time.Second, // a caller that vanished is noticed
			WriteByteTimeout:     time.Minute,
		},
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is a call like any other
		ReadHeaderTimeout:            f.cfg.HeaderReadTimeout,
		IdleTimeout:                  f.cfg.IdleTimeout,
		MaxHeaderBytes:               f.cfg.HeaderBytes,
		ErrorLog:                     slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return f.callers },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			t := c.(*tls.Conn)
			s := admittedBelow(t)
			state := t.ConnectionState()
			chain := state.PeerCertificates
			if len(chain) > 0 {
				s.whenLeft(f.cfg.Follow(chain, s.source.String(), func() { cutOff(s.TCPConn) }))
			}
			return context.WithValue(ctx, connKey{}, &Conn{Peer: authn.NewPeer(chain), Source: s.source, Curve: state.CurveID, seat: s.seat})
		},
	}
	f.http3 = &http3.Server{
		Handler:        f.overHTTP3(handler),
		MaxHeaderBytes: f.cfg.HeaderBytes,
		IdleTimeout:    f.cfg.IdleTimeout,
		Logger:         slog.New(slog.DiscardHandler), // strangers' noise
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			state, source := c.ConnectionState().TLS, unmapped(c.RemoteAddr().(*net.UDPAddr).AddrPort())
			chain := state.PeerCertificates
			if len(chain) > 0 {
				end := func() { go func() { _ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }() } // it waits a moment
				context.AfterFunc(c.Context(), f.cfg.Follow(chain, source.String(), end))
			}
			return context.WithValue(ctx, connKey{}, &Conn{Peer: authn.NewPeer(chain), Source: source, Curve: state.CurveID, seat: seatOf(c)})
		},
	}
}

// overHTTP3 lets a request end with Run too, and offers the bare stream of a CONNECT.
func (f *Front) overHTTP3(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		defer context.AfterFunc(f.callers, cancel)()
		// quic-go ends a request's context when our direction ends, which is too early for a stream that was taken.
		gone := context.AfterFunc(r.Context(), cancel)
		defer gone()
		if s, ok := w.(http3.HTTPStreamer); ok && r.Method == http.MethodConnect {
			w = &h3Writer{ResponseWriter: w, streamer: s, taken: func() { gone() }}
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// h3Writer offers the bare stream of a CONNECT without quic-go's types.
type h3Writer struct {
	http.ResponseWriter
	streamer http3.HTTPStreamer
	taken    func()
}

// Unwrap lets http.ResponseController find what quic-go's writer can do.
func (w *h3Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TakeStream sends the header and returns the stream, which is the caller's to close from then on.
func (w *h3Writer) TakeStream() (link.Duplex, error) {
	s, err := w.streamer.HTTPStream()
	if err != nil {
		return nil, err
	}
	w.taken()
	return &h3Stream{s}, nil
}

// h3Stream is a CONNECT's bytes over HTTP/3.
type h3Stream struct{ *http3.Stream }

// CloseWrite ends our direction: that is what quic-go's Close does.
func (s *h3Stream) CloseWrite() error { return s.Stream.Close() }

// Reset ends both directions with a fault (RFC 9114 §4.4: a reset on a CONNECT stream is a connection error there).
func (s *h3Stream) Reset(uint16) {
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeConnectError))
	s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeConnectError))
}

// Close releases the stream. Where a direction has ended already, its half does nothing.
func (s *h3Stream) Close() error {
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	return s.Stream.Close()
}
