// Package lanelink makes a link of lanes: warm TLS connections that carry one stream at a time and are used again. A
// call on a lane shares nothing with any other: no window, no congestion control, no queue, and the connection's own
// back-pressure is the stream's. That is why it is the fast path over TCP (DESIGN.md says how fast).
//
// A stream's bytes run in the chunks of package link, without credit. A lane is free again when both sides have ended
// their direction; a stream that is reset takes its lane along, so that nothing of it has to drain first.
//
// It does not dial, greet or authenticate, and keeps no floor of lanes: who adds them decides how many there are.
package lanelink

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/socket"
)

const (
	// maxData is the most that goes into one chunk: with its header exactly four TLS records of 16 KiB.
	maxData   = 64<<10 - link.ChunkHeaderSize
	chunkSize = link.ChunkHeaderSize + maxData

	// little is how many bytes of TLS may wait for the next chunk and leave with it: an end, and what TLS says by itself.
	little = 256

	// burialTime bounds how long the reset of a stream may take to reach its peer before the connection is cut.
	burialTime = time.Second

	// wornAfter is how many bytes a stream must have moved for its lane to be asked whether it is worn.
	wornAfter = 256 << 10

	// recently is how long ago a lane may have been used to be taken again unseen. Where its peer has ended it meanwhile,
	// the stream finds out.
	recently = 100 * time.Millisecond

	// lookEvery is how often lanes are looked at: idle ones for their age, busy ones for a peer that is gone.
	lookEvery = time.Second
	restEvery = 5 * time.Second // while no stream runs
)

// ErrTooMany is Add's answer beyond Config.MaxLanes.
var ErrTooMany = errors.New("no more lanes admitted in this session")

// Config says how a session keeps its lanes. Of the embedded link.Config only the stream limit counts.
type Config struct {
	link.Config
	MaxLanes  int           // Add refuses more; zero: no bound
	Floor     int           // idle lanes of this side's that are kept however long they are idle; default 2
	IdleAfter time.Duration // how long the others are kept; default 30 s
	// Serve, where given, gets each stream that the peer opens, in the lane's own goroutine; Accept then gets none. It
	// must end when the stream does, and close it.
	Serve     func(link.Stream)
	DeadAfter time.Duration // for how long a peer's system may leave something unacknowledged, and no lane be left; default 5 s
}

func (c Config) withDefaults() Config {
	c.Config = c.WithDefaults()
	if c.Floor == 0 {
		c.Floor = 2
	}
	if c.IdleAfter == 0 {
		c.IdleAfter = 30 * time.Second
	}
	if c.DeadAfter == 0 {
		c.DeadAfter = 5 * time.Second
	}
	return c
}

// Add makes a lane of conn, a TLS connection over a *socket.Conn whose two ends have agreed to it, and owns it from
// now on, also when it fails. Streams are opened by this side alone where opens says so, else by the peer alone.
// info describes the connection; the session's own Info is its first lane's. heard, where given, is called with what the
// peer says by Say; it must not block, and may keep the note. It fails when the session has ended.
func (s *Session) Add(conn net.Conn, opens bool, info link.Info, heard func(note []byte)) (*Lane, error) {
	sock := socket.Under(conn)
	if sock == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("adding a lane: expected TLS over a *socket.Conn, got %T", conn)
	}
	info.Transport = "lane"
	l := &Lane{session: s, conn: conn, sock: sock, opens: opens, info: info, heard: heard, done: make(chan struct{}), freed: make(chan struct{}, 1)}
	sock.Cork()
	if err := s.join(l); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return l, nil
}
