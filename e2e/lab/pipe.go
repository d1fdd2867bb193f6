//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mtu is what the devices at both ends are set to, in bytes.
	mtu = 1500
	// maxHeld bounds what a direction without a rate holds back for its delay: 64 MiB, the bytes of 0.5 s at 1 Gbit/s.
	maxHeld = 64 << 20
	// fine is the last part of a wait, which the runtime's timers (1 ms) are too coarse for.
	fine = 2 * time.Millisecond
)

// A pipe carries packets from one device to another under conditions, which may change while it runs.
type pipe struct {
	from, to *os.File
	stop     chan struct{}
	come     chan struct{} // one element: something may wait in packets
	free     sync.Pool     // *[mtu]byte

	mu      sync.Mutex
	line    *line    // guarded by mu
	packets []packet // guarded by mu; in the order in which they come out
	held    int      // guarded by mu; bytes in packets
	stats   Stats    // guarded by mu
}

// Stats counts what became of a direction's packets.
type Stats struct {
	Passed, Lost, Overflowed, Cut int64
	Bytes                         int64 // of what passed
}

type packet struct {
	data *[mtu]byte
	size int
	due  time.Time
}

func newPipe(from, to *os.File, l *line) *pipe {
	p := &pipe{from: from, to: to, line: l, stop: make(chan struct{}), come: make(chan struct{}, 1)}
	p.free.New = func() any { return new([mtu]byte) }
	return p
}

// take moves packets from the device into the queue until the device is closed.
func (p *pipe) take() error {
	for {
		data := p.free.Get().(*[mtu]byte)
		n, err := p.from.Read(data[:])
		if errors.Is(err, fs.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a packet: %w", err)
		}
		if !p.push(data, n) {
			p.free.Put(data)
		}
	}
}

func (p *pipe) push(data *[mtu]byte, size int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due, what := p.line.admit(time.Now(), size)
	if what == passes && p.held+size > maxHeld {
		what = overflows
	}
	p.stats.count(what)
	if what != passes {
		return false
	}
	p.packets = append(p.packets, packet{data: data, size: size, due: due})
	p.held += size
	select {
	case p.come <- struct{}{}:
	default: // it is known already
	}
	return true
}

// give hands packets to the other device when they are due, until stop is closed.
func (p *pipe) give() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel may otherwise wake this thread 50 µs late.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return fmt.Errorf("asking for exact timers: %w", err)
	}
	for {
		head, ok := p.pop()
		if !ok {
			select {
			case <-p.come:
				continue
			case <-p.stop:
				return nil
			}
		}
		if !p.sleep(head.due) {
			return nil
		}
		if err := p.write(head); err != nil {
			return err
		}
	}
}

func (p *pipe) pop() (packet, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.packets) == 0 {
		p.packets = nil // gives up the array, of which append has used the end
		return packet{}, false
	}
	head := p.packets[0]
	p.packets = p.packets[1:]
	p.held -= head.size
	return head, true
}

// sleep waits until due, and returns false when the pipe is stopped first.
func (p *pipe) sleep(due time.Time) bool {
	wait := time.Until(due)
	if wait > fine {
		timer := time.NewTimer(wait - fine)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.stop:
			return false
		}
		wait = time.Until(due)
	}
	for ; wait > 0; wait = time.Until(due) {
		pause := unix.NsecToTimespec(int64(wait))
		_ = unix.Nanosleep(&pause, nil) // EINTR: the loop looks again
	}
	return true
}

// write delivers the packet, unless the path was cut while it was on its way.
func (p *pipe) write(head packet) error {
	p.mu.Lock()
	gone := p.line.Cut
	if gone {
		p.stats.Passed--
		p.stats.Cut++
	} else {
		p.stats.Bytes += int64(head.size)
	}
	p.mu.Unlock()
	defer p.free.Put(head.data)
	if gone {
		return nil
	}
	_, err := p.to.Write(head.data[:head.size])
	if errors.Is(err, fs.ErrClosed) {
		return nil // the lab is ending
	}
	if err != nil {
		return fmt.Errorf("writing a packet: %w", err)
	}
	return nil
}

func (p *pipe) set(c Conditions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line.Conditions = c
}

func (p *pipe) conditions() Conditions {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line.Conditions
}

func (p *pipe) counted() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (s *Stats) count(what fate) {
	switch what {
	case passes:
		s.Passed++
	case lost:
		s.Lost++
	case overflows:
		s.Overflowed++
	case cut:
		s.Cut++
	}
}
