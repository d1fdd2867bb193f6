package backend

import (
	"context"
	"net"
)

// DialUDP makes a socket that is connected to the backend: what others send to it is dropped by the system. It blocks while the
// name resolves, at most for the dial time-out. The error is a *protocol.Error with Sent false.
func (b *Backend) DialUDP(ctx context.Context) (net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	c, err := b.dialer.DialContext(dialing, "udp", b.addr.hostport())
	if err != nil {
		return nil, classify(ctx, &dialError{err}, false)
	}
	return c, nil
}
