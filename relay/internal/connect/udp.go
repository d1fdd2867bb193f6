package connect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

const (
	maxFlows = 1024            // more senders than that are not heard
	flowIdle = 2 * time.Minute // RFC 4787 §4.3
	queueLen = 64              // datagrams that wait while a flow is opened, or its connection is slow; more are dropped, as datagrams are
)

// ServeUDP carries the datagrams that arrive on pc, one flow for each sender, until ctx ends; it closes pc, and returns when
// every flow has ended. A flow ends when nothing has moved for two minutes.
func ServeUDP(ctx context.Context, pc *net.UDPConn, cfg Config) error {
	cfg.TLS = cfg.TLS.Clone()
	cfg.TLS.NextProtos = []string{"http/1.1"}
	stop := context.AfterFunc(ctx, func() { _ = pc.Close() })
	defer stop()
	s := &senders{flows: make(map[netip.AddrPort]*flow)}
	var running sync.WaitGroup
	defer running.Wait()
	buf := make([]byte, protocol.MaxDatagram)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receiving on %s: %w", pc.LocalAddr(), err)
		}
		f, fresh := s.of(from)
		if f == nil {
			continue
		}
		if fresh {
			running.Go(func() {
				defer s.forget(from)
				f.run(ctx, pc, from, cfg)
			})
		}
		select {
		case f.up <- append([]byte(nil), buf[:n]...):
		default:
		}
	}
}

// senders are those whose flows run.
type senders struct {
	// mu guards:
	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
}

// of finds or makes a sender's flow; nil where there are too many.
func (s *senders) of(from netip.AddrPort) (f *flow, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flows[from]; f != nil {
		return f, false
	}
	if len(s.flows) >= maxFlows {
		return nil, false
	}
	f = &flow{up: make(chan []byte, queueLen)}
	s.flows[from] = f
	return f, true
}

func (s *senders) forget(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flows, from)
}

// flow is one sender's.
type flow struct {
	up    chan []byte
	moved atomic.Bool
}

// run opens the flow and carries it to its end.
func (f *flow) run(ctx context.Context, pc *net.UDPConn, from netip.AddrPort, cfg Config) {
	far, err := open(ctx, cfg, true)
	if err != nil {
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			cfg.Log.Warn("flow refused", "tunnel_host", cfg.TunnelHost, "code", refused.Code, "status", refused.Status, "detail", refused.Detail, "call_id", refused.CallID)
		} else if ctx.Err() == nil {
			cfg.Log.Error("relay not reached", "relay", cfg.Relay, "error", err)
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = far.Close() })
	defer stop()
	var down sync.WaitGroup
	down.Go(func() {
		defer cancel()
		f.receive(far, pc, from)
	})
	f.send(ctx, far)
	cancel()
	down.Wait()
}

// send passes the sender's datagrams on, until ctx ends, the connection breaks, or nothing has moved for long.
func (f *flow) send(ctx context.Context, far *tunnel) {
	tick := time.NewTicker(flowIdle)
	defer tick.Stop()
	var frame []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !f.moved.Swap(false) {
				return
			}
		case datagram := <-f.up:
			f.moved.Store(true)
			var err error
			if frame, err = protocol.AppendDatagram(frame[:0], datagram); err != nil {
				continue // it was read into a buffer of the largest's size
			}
			if _, err := far.Write(frame); err != nil {
				return
			}
		}
	}
}

// receive passes what comes back on to the sender.
func (f *flow) receive(far *tunnel, pc *net.UDPConn, to netip.AddrPort) {
	r, buf := bufio.NewReader(far), make([]byte, protocol.MaxDatagram)
	for {
		n, err := protocol.ReadDatagram(r, buf)
		if err != nil {
			return
		}
		f.moved.Store(true)
		_, _ = pc.WriteToUDPAddrPort(buf[:n], to) // a datagram that cannot be delivered is lost
	}
}
