//go:build !linux

package socket

import (
	"net"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// Tune does nothing here: Go's own choices (no delay, keep-alives) are in force.
func Tune(net.Conn, Options) error { return nil }

// State is what the kernel knows of a connection.
type State struct {
	link.Stats
	Ended, Gone, Worn bool
	Silence           time.Duration
}

// Ask reads the connection's state; ok is false where the system cannot say.
func Ask(net.Conn) (s State, ok bool) { return State{}, false }
