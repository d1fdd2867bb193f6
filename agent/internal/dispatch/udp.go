package dispatch

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// serveUDP carries one UDP flow: datagrams in capsules on the stream, as they are on a socket of its own. It ends when the caller
// ends it, or when nothing has moved for the tunnel's idle time: a datagram has no end.
func (c *call) serveUDP(ctx context.Context) {
	conn, err := c.tunnel.backend.DialUDP(ctx)
	if !c.connected(err) {
		return
	}
	defer conn.Close()
	if !c.opened() {
		return
	}
	f := &flow{stream: c.stream, conn: conn, idle: c.tunnel.cfg.Timeouts.Idle, began: time.Now()}
	stop := context.AfterFunc(ctx, f.wake)
	defer stop()
	var running sync.WaitGroup
	running.Go(f.fromBackend)
	up := f.toBackend()
	f.wake()
	running.Wait()
	c.report.In, c.report.Out = f.in.Load(), f.out.Load()
	switch down := f.down; {
	case errors.Is(up, io.EOF), errors.Is(up, errIdle), errors.Is(down, errIdle):
		if err := c.stream.CloseWrite(); errors.Is(err, link.ErrLost) {
			c.failed(peerError(err))
		}
	case errors.Is(up, protocol.ErrMalformed):
		c.stream.Reset(uint16(protocol.BadRequest))
		c.failed(&protocol.Error{Code: protocol.BadRequest, Sentence: "the caller's datagrams are malformed", Sent: true, Cause: up})
	default:
		c.failed(spliceError(errors.Join(up, down)))
		c.stream.Reset(uint16(protocol.Canceled))
	}
}

// flow is a UDP flow while it runs.
type flow struct {
	stream  link.Stream
	conn    net.Conn
	idle    time.Duration
	began   time.Time
	moved   atomic.Int64 // nanoseconds since began
	in, out atomic.Int64 // bytes of payloads
	over    atomic.Bool
	down    error // what ended fromBackend
}

var errIdle = errors.New("nothing has moved for long")

// wake ends both directions' waits, and lets none begin.
func (f *flow) wake() {
	f.over.Store(true)
	_ = f.conn.SetReadDeadline(time.Unix(1, 0)) // these fail only where the reads have ended
	_ = f.stream.SetReadDeadline(time.Unix(1, 0))
}

// toBackend passes the caller's datagrams on. What the backend's host refuses (ECONNREFUSED) is lost, as datagrams are.
func (f *flow) toBackend() error {
	r, buf := bufio.NewReaderSize(f.stream, 4<<10), make([]byte, protocol.MaxDatagram)
	for {
		n, err := protocol.ReadDatagram(r, buf)
		if err != nil {
			return err
		}
		f.touch()
		if _, err := f.conn.Write(buf[:n]); err != nil && !lost(err) {
			return err
		}
		f.in.Add(int64(n))
	}
}

// fromBackend passes the backend's datagrams on, and looks after the flow's idle time.
func (f *flow) fromBackend() {
	defer f.wake()
	buf, frame := make([]byte, protocol.MaxDatagram), make([]byte, 0, 2<<10)
	for {
		quiet := time.Since(f.began) - time.Duration(f.moved.Load())
		if quiet >= f.idle {
			f.down = errIdle
			return
		}
		if f.down = f.conn.SetReadDeadline(time.Now().Add(f.idle - quiet)); f.down != nil || f.over.Load() {
			return
		}
		n, err := f.conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || lost(err) {
			continue // the top of the loop knows what that means
		}
		if err == nil {
			f.touch()
			f.out.Add(int64(n))
			if frame, err = protocol.AppendDatagram(frame[:0], buf[:n]); err == nil {
				_, err = f.stream.Write(frame)
			}
		}
		if f.down = err; err != nil {
			return
		}
	}
}

// lost says that a datagram found nobody: an ICMP message about an earlier one.
func lost(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EMSGSIZE)
}

func (f *flow) touch() { f.moved.Store(int64(time.Since(f.began))) }
