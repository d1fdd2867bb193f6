package socket

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/protocol/link"
)

// Tune sets options on a TCP connection, or on the one below a Conn. Where the kernel does not offer BBR to this
// process that is no error. MPTCP sockets refuse: listen and dial without it.
func Tune(conn net.Conn, o Options) error {
	return control(conn, func(fd int) error {
		var errs []error
		set := func(name string, opt, value int) {
			if value > 0 {
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, opt, value); err != nil {
					errs = append(errs, fmt.Errorf("setting %s: %w", name, err))
				}
			}
		}
		set("TCP_NOTSENT_LOWAT", unix.TCP_NOTSENT_LOWAT, o.Unsent)
		set("TCP_USER_TIMEOUT", unix.TCP_USER_TIMEOUT, int(o.UserTimeout.Milliseconds()))
		if o.Congestion == BBR || o.Congestion == Auto && isLong(fd) {
			err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr")
			if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("setting TCP_CONGESTION: %w", err))
			}
		}
		return errors.Join(errs...)
	})
}

func isLong(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && time.Duration(info.Rtt)*time.Microsecond >= longRTT
}

// control runs f on the connection's descriptor.
func control(conn net.Conn, f func(fd int) error) error {
	var raw syscall.RawConn
	switch c := conn.(type) {
	case *Conn:
		raw = c.raw
	case syscall.Conn:
		var err error
		if raw, err = c.SyscallConn(); err != nil {
			return err
		}
	}
	if raw == nil {
		return nil
	}
	var err error
	if rawErr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); rawErr != nil {
		return rawErr
	}
	return err
}

// State is what the kernel knows of a connection.
type State struct {
	link.Stats
	// Ended: the peer's system has ended or reset the connection, whether or not anybody has read that far.
	Ended bool
	// Gone: the connection is no more; it was reset, most likely.
	Gone bool
	// Worn: on a long path the congestion control remembers a loss, and would begin slowly where a new connection would
	// find out by itself what the path carries.
	Worn bool
	// Silence is how long the peer's system has acknowledged nothing although something waits for its word; zero
	// where nothing does.
	Silence time.Duration
}

// neverLost is the kernel's slow-start threshold (TCP_INFINITE_SSTHRESH) of a connection without a loss.
const neverLost = 0x7fffffff

// Ask reads the connection's state; ok is false where the system cannot say.
func Ask(conn net.Conn) (s State, ok bool) {
	err := control(conn, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return err
		}
		s.RTT = time.Duration(info.Rtt) * time.Microsecond
		s.SentBytes, s.ReceivedBytes = info.Bytes_sent, info.Bytes_received
		s.SentPackets, s.LostPackets = uint64(info.Data_segs_out), uint64(info.Total_retrans)
		s.Ended = info.State != unix.BPF_TCP_ESTABLISHED && info.State != unix.BPF_TCP_FIN_WAIT1 && info.State != unix.BPF_TCP_FIN_WAIT2
		s.Gone = info.State == unix.BPF_TCP_CLOSE
		if info.Unacked > 0 || info.Probes > 1 {
			s.Silence = time.Duration(info.Last_ack_recv) * time.Millisecond
		}
		s.Congestion, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		s.Worn = s.RTT >= longRTT && s.Congestion != "bbr" && info.Snd_ssthresh < neverLost
		ok = true
		return err
	})
	return s, ok && err == nil
}
