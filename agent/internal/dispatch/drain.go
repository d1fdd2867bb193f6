package dispatch

import (
	"io"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

const (
	// drainTimeout is how long a peer may take to end its direction after this side's answer is complete. It is long,
	// because a slow caller may still be reading that answer out of the link's windows, and closing earlier would be a
	// reset, which drops them.
	drainTimeout = 5 * time.Minute
	// drainBytes is how much of a request that nobody wants any more is taken meanwhile.
	drainBytes = 64 << 20
)

// drain reads until the peer ends the stream, so that closing it is quiet.
func drain(stream link.Stream) {
	_ = stream.SetReadDeadline(time.Now().Add(drainTimeout))
	// Whatever the error: what follows is Close, which resets a stream that has not ended.
	_, _ = io.CopyN(io.Discard, stream, drainBytes)
}
