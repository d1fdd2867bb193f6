package backend

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	// idleConns is how many idle connections a tunnel keeps.
	idleConns = 64
	// idleTimeout is below what servers commonly keep (60 s and more), so that this side is mostly the one to close.
	idleTimeout = 30 * time.Second
	// continueTimeout is how long a body with Expect: 100-continue waits for a backend that says nothing.
	continueTimeout = time.Second
	// maxResponseHeader bounds a response's header block.
	maxResponseHeader = 64 << 10
	// http2Window is what one HTTP/2 stream may receive unread; the default is 4 MiB, for each slow caller.
	http2Window = 1 << 20
)

// transports makes the pool for requests, and the one for upgrades to WebSocket, which HTTP/2 cannot carry here.
func (b *Backend) transports(header time.Duration) (main, upgrade *http.Transport) {
	main = b.transport(header, "h2", "http/1.1")
	switch b.addr.scheme {
	case "https":
		main.Protocols.SetHTTP1(true)
		main.Protocols.SetHTTP2(true)
		upgrade = b.transport(header, "http/1.1")
		upgrade.Protocols.SetHTTP1(true)
		return main, upgrade
	case "h2c":
		main.Protocols.SetUnencryptedHTTP2(true)
	default:
		main.Protocols.SetHTTP1(true)
	}
	return main, main
}

// transport makes one pool; protos are what it offers by ALPN where the backend speaks TLS.
func (b *Backend) transport(header time.Duration, protos ...string) *http.Transport {
	t := &http.Transport{
		// No Proxy: the environment's is for the way to the relay, never for the way to a backend.
		Protocols:              new(http.Protocols),
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  header,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: http2Window,
			SendPingTimeout:           30 * time.Second,
			PingTimeout:               15 * time.Second,
		},
	}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := b.dial(ctx)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: c}, nil
	}
	if b.tls == nil {
		return t
	}
	cfg := b.tls.Clone()
	cfg.NextProtos = protos
	t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := b.dial(ctx)
		if err != nil {
			return nil, err
		}
		tc, err := b.handshake(ctx, &countedConn{Conn: c}, cfg)
		if err != nil {
			return nil, err // not tc: a nil *tls.Conn in an interface is not nil
		}
		return tc, nil
	}
	return t
}
