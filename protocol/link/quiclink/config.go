// Package quiclink makes a link of one QUIC connection. Streams, windows, ends and resets are QUIC's own; this package
// gives them the meaning of link.Stream, where a reset always ends both directions.
//
// It does not authenticate, listen or judge silence, and owns a socket only where it dialled.
package quiclink

import (
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead/fairlead/protocol/link"
)

const (
	handshakeTimeout = 5 * time.Second
	// idleTimeout is a safety valve behind the liveness that is judged above us.
	idleTimeout = 30 * time.Second
	// keepAlive keeps the address translations and firewalls on the way from forgetting a quiet connection.
	keepAlive = 10 * time.Second
)

// outgoing is for how many streams of our own opening the connection's window has room, besides those of the peer.
const outgoing = 2000

// QUICConfig returns the transport's settings for a link. Listener and dialler need the same ones.
func QUICConfig(cfg link.Config) *quic.Config {
	cfg = cfg.WithDefaults()
	// The connection's window must hold what every stream may have unread, or streams that stall would take what the
	// others need: QUIC has no other way to let one go on. It is what a peer can make us hold.
	window := uint64(cfg.Budget) + uint64(cfg.MaxStreams+outgoing)*uint64(cfg.InitialWindow) //nolint:gosec // positive
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 idleTimeout,
		KeepAlivePeriod:                keepAlive,
		InitialStreamReceiveWindow:     uint64(cfg.InitialWindow), //nolint:gosec // positive
		MaxStreamReceiveWindow:         uint64(cfg.MaxWindow),     //nolint:gosec // positive
		InitialConnectionReceiveWindow: window,
		MaxConnectionReceiveWindow:     window,
		MaxIncomingStreams:             int64(cfg.MaxStreams),
		MaxIncomingUniStreams:          -1,    // none
		Allow0RTT:                      false, // replayable, and before the SPIFFE check
		EnableDatagrams:                false,
		// No TokenStore: a token would skip the address check, and tie an agent's connections together.
	}
}
