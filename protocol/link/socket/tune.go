package socket

import "time"

// Congestion says which congestion control a link's sockets ask for.
type Congestion string

// The choices. BBR reads the rate of the path and not its losses: at 1 % loss over 50 ms it is up to a hundred times
// faster than CUBIC. Where the kernel does not offer it to this process the system's own stays.
const (
	Auto   Congestion = "auto"   // BBR on paths of longRTT and more
	BBR    Congestion = "bbr"    // BBR wherever the kernel offers it
	System Congestion = "system" // what the kernel has
)

// longRTT is from where Auto asks for BBR: within a data centre its pacing costs CPU and wins nothing.
const longRTT = 3 * time.Millisecond

// LinkUnsent is Options.Unsent of a link's socket, in bytes: enough to keep the path full between two wake-ups, and no
// more than a millisecond or two of a fast one.
const LinkUnsent = 128 << 10

// Options are what Tune sets. The zero value of a field leaves the system's own.
type Options struct {
	Congestion Congestion
	// Unsent is how many bytes may wait in the kernel that were not sent yet (TCP_NOTSENT_LOWAT): what a reset, or a
	// ping, waits behind.
	Unsent int
	// UserTimeout ends the connection when the peer's system has acknowledged nothing for so long (TCP_USER_TIMEOUT).
	// It also counts while the peer does not read, so it is only for connections whose peer always reads.
	UserTimeout time.Duration
}
