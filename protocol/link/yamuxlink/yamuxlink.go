// Package yamuxlink makes a link of one ordered connection: TLS over TCP in the product, any net.Conn in tests. yamux
// only tells the streams apart; ends, resets, credit and windows are the chunks of package chunked, because yamux has
// no reset that a stranger could tell from an end, and no bound on what all streams hold together. Frames with data are
// built by the stream's writer and not by yamux, which would copy them twice and change hands thrice; it receives them.
//
// It does not dial or authenticate, and does not judge silence: whoever sends pings on a stream decides.
package yamuxlink

import (
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/fairlead/fairlead/protocol/link"
)

const (
	// yamuxWindow is yamux's first window of a stream, in bytes, which it does not let us choose. Our first window
	// must fit, or the goroutine that writes for all streams would wait for one.
	yamuxWindow = 256 << 10

	// backlog is how many streams this side may have open, those that wait for the peer's last word included. It
	// is yamux's bound of streams that await the peer's answer too, at which its OpenStream would block, and costs
	// 32 KiB a session.
	backlog = 4096

	// maxInbound is how many of the peer's streams may live, refused ones included. An honest peer has at most
	// backlog by its own count, which may run a little ahead of ours.
	maxInbound = backlog + backlog/4

	// writeTimeout is a safety valve far behind the liveness that is judged above us, for sessions that nobody
	// watches: yamux's for a frame, and the connection's for a record. 16 KiB take 20 s at 6.5 kbit/s.
	writeTimeout = 30 * time.Second
)

// Client makes the end of a link that dialled. It owns conn from now on, also when it fails. info.Transport, Local and
// Remote have defaults. The caller must end the session with Close.
func Client(conn net.Conn, cfg link.Config, info link.Info) (link.Session, error) {
	return newSession(conn, cfg, info, true)
}

// Server makes the end of a link that accepted; otherwise it is as Client.
func Server(conn net.Conn, cfg link.Config, info link.Info) (link.Session, error) {
	return newSession(conn, cfg, info, false)
}

func newSession(conn net.Conn, cfg link.Config, info link.Info, client bool) (link.Session, error) {
	cfg = cfg.WithDefaults()
	if cfg.InitialWindow > yamuxWindow {
		_ = conn.Close()
		return nil, fmt.Errorf("initial window: expected at most yamux's first %d bytes, got %d", yamuxWindow, cfg.InitialWindow)
	}
	if info.Transport == "" {
		info.Transport = "tcp"
	}
	if info.Local == nil {
		info.Local, info.Remote = conn.LocalAddr(), conn.RemoteAddr()
	}
	s := &Session{
		cfg: cfg, info: info, client: client,
		budget:  link.NewBudget(cfg.Budget),
		done:    make(chan struct{}),
		opening: make(chan struct{}, 1),
		queued:  make(chan struct{}, 1),
		ended:   make(chan struct{}, 1),
		open:    make(map[*carrier]struct{}),
		live:    make(map[*carrier]struct{}),
	}
	s.conn = newFrameConn(conn, client, s.fail)
	begin := yamux.Server
	if client {
		begin = yamux.Client
	}
	var err error
	if s.mux, err = begin(s.conn, yamuxConfig(cfg, &s.log)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("starting yamux: %w", err)
	}
	s.running.Go(s.conn.flush)
	s.running.Go(s.acceptLoop)
	s.running.Go(s.finishLoop)
	s.running.Go(s.shrinkLoop)
	return s, nil
}

func yamuxConfig(cfg link.Config, log *lastError) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          backlog,
		EnableKeepAlive:        false,       // its pings queue behind bulk; ours do not
		KeepAliveInterval:      time.Minute, // unused, but must not be zero
		ConnectionWriteTimeout: writeTimeout,
		// Ours decide: yamux's is replenished as the pumps read, which they always do, and is so large that what
		// is under way on the longest path fits.
		MaxStreamWindowSize: uint32(min(2*cfg.MaxWindow+1<<20, 1<<30)), //nolint:gosec // bounded
		StreamOpenTimeout:   0,                                         // none: a late answer is no reason to end the link
		StreamCloseTimeout:  0,                                         // none: it would cut downloads after a half-close
		// Its lines name no link and a peer can cause them at will: they go nowhere, but the last one explains an
		// end that yamux decided.
		Logger: log,
	}
}
