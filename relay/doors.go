package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

// door is a way in beside the relay's port, for callers on the same host: one tunnel, one identity. It is a unix socket
// or a loopback address, whichever is set.
type door struct {
	socket  string
	address netip.AddrPort
	tunnel  protocol.TunnelName
	network protocol.Network
	as      certs.ID
}

func (x *rules) doors() []door {
	var all []door
	for _, t := range x.table.All() {
		if t.Listen != nil {
			all = append(all, door{t.Listen.Socket, t.Listen.Address, t.Name, t.Network, t.Listen.As})
		}
	}
	return all
}

// openDoors opens the doors of x that are not open yet, all or none. It is called with reloading held.
func (r *Relay) openDoors(x *rules) error {
	opened := map[door]net.Listener{}
	for _, d := range x.doors() {
		if r.doors[d] != nil {
			continue
		}
		ln, err := d.listen(r.life)
		if err != nil {
			for _, other := range opened {
				err = errors.Join(err, other.Close())
			}
			return fmt.Errorf("tunnel %s: %w", d.tunnel, err)
		}
		opened[d] = ln
	}
	for d, ln := range opened {
		ctx, stop := context.WithCancel(r.life)
		r.doors[d] = stop
		r.running.Go(func() {
			if err := r.gateway.Local(d.tunnel, d.network, d.as).Serve(ctx, ln); err != nil {
				r.log.Error("local door ended", "door", d.place(), "tunnel", d.tunnel, "error", err)
			}
		})
	}
	return nil
}

// closeDoors closes the doors that x does not have. It is called with reloading held.
func (r *Relay) closeDoors(x *rules) {
	wanted := map[door]bool{}
	for _, d := range x.doors() {
		wanted[d] = true
	}
	for d, stop := range r.doors {
		if !wanted[d] {
			stop()
			delete(r.doors, d)
		}
	}
}

// place names the door for people.
func (d door) place() string {
	if d.socket != "" {
		return d.socket
	}
	return d.address.String()
}

func (d door) listen(ctx context.Context) (net.Listener, error) {
	if d.socket != "" {
		return listenUnix(ctx, d.socket)
	}
	// A caller that is gone without a word gives its place back within 30 s. Go sets TCP_NODELAY by itself.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	lc.SetMultipathTCP(false) // it knows fewer socket options, and on one host it has no second way
	return lc.Listen(ctx, "tcp", d.address.String())
}

// listenUnix listens on path for this user and group alone, replacing a socket that a process left behind.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s: another process answers on it", path), conn.Close())
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // the group is how a caller beside the relay is let in
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}
