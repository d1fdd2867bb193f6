//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long streams may take to open, and to end once they are told to.
const patience = 30 * time.Second

// A stream is an open connection to the backend.
type stream struct {
	*net.TCPConn
}

// open connects and says what for.
func open(ctx context.Context, address string, what byte) (stream, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return stream{}, err
	}
	if _, err := conn.Write([]byte{what}); err != nil {
		return stream{}, errors.Join(err, conn.Close())
	}
	return stream{conn.(*net.TCPConn)}, nil
}

// dialer leaves multipath TCP out, which the things measured do not speak either.
var dialer = func() *net.Dialer {
	d := new(net.Dialer)
	d.SetMultipathTCP(false)
	return d
}()

// bulk moves bytes one way on s.Streams streams.
func bulk(ctx context.Context, s Spec, report func(Result)) error {
	if s.Aborted > 0 {
		if err := abort(ctx, s); err != nil {
			return fmt.Errorf("the stream that is to be aborted: %w", err)
		}
	}
	m := newMovers(s.Streams, s.Up)
	defer m.cut()
	meter, err := newMeter(s, &m.total)
	if err != nil {
		return err
	}
	if err := m.start(ctx, s.Address); err != nil {
		return err
	}
	r, moved, err := meter.run(ctx, m.failed)
	if err != nil {
		return err
	}
	if moved == 0 {
		return errors.New("nothing moved within the window")
	}
	r.Bytes = moved
	report(r)
	return m.end()
}

// abort runs one stream and cuts it off.
func abort(ctx context.Context, s Spec) error {
	m := newMovers(1, s.Up)
	defer m.cut()
	if err := m.start(ctx, s.Address); err != nil {
		return err
	}
	return pause(ctx, s.Aborted, m.failed)
}

// movers are streams that move bytes.
type movers struct {
	streams []stream
	up      bool
	total   atomic.Int64
	stop    atomic.Bool
	running sync.WaitGroup
	failed  chan error // one place a stream
}

func newMovers(n int, up bool) *movers {
	return &movers{streams: make([]stream, n), up: up, failed: make(chan error, n)}
}

// start opens all streams at the same time. cut is called in any case.
func (m *movers) start(ctx context.Context, addresses []string) error {
	what := byte(source)
	if m.up {
		what = sink
	}
	errs := make([]error, len(m.streams))
	var opening sync.WaitGroup
	for i := range m.streams {
		opening.Go(func() {
			c, err := open(ctx, addresses[i%len(addresses)], what)
			if m.streams[i], errs[i] = c, err; err != nil {
				return
			}
			m.running.Go(func() {
				if err := m.move(c); err != nil {
					m.failed <- err
				}
			})
		})
	}
	opening.Wait()
	return errors.Join(errs...)
}

func (m *movers) move(c stream) error {
	if m.up {
		return m.push(c)
	}
	buf := make([]byte, chunk)
	for {
		n, err := c.Read(buf)
		m.total.Add(int64(n))
		if errors.Is(err, io.EOF) && m.stop.Load() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
}

// push writes until it is told to stop, and expects the backend to have got as much.
func (m *movers) push(c stream) error {
	var sent int64
	arrived := make(chan error, 1)
	var got int64
	go func() {
		var err error
		got, err = m.follow(c)
		arrived <- err
	}()
	for !m.stop.Load() {
		n, err := c.Write(noise())
		sent += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) && m.stop.Load() {
			break
		}
		if err != nil {
			_ = c.Close() // ends follow
			return fmt.Errorf("writing: %w", errors.Join(err, <-arrived))
		}
	}
	err := errors.Join(c.SetWriteDeadline(time.Time{}), c.CloseWrite())
	if err = errors.Join(err, <-arrived); err != nil {
		return err
	}
	if got != sent {
		return fmt.Errorf("the backend got %d bytes of %d", got, sent)
	}
	return nil
}

// follow counts what the backend says that it got, and returns the last it said.
func (m *movers) follow(c stream) (got int64, err error) {
	for {
		var count [8]byte
		_, err := io.ReadFull(c, count[:])
		if errors.Is(err, io.EOF) && m.stop.Load() {
			return got, nil
		}
		if err != nil {
			return got, fmt.Errorf("reading the backend's count: %w", err)
		}
		now := int64(binary.BigEndian.Uint64(count[:]))
		m.total.Add(now - got)
		got = now
	}
}

// end ends every stream cleanly. Bytes under way arrive first.
func (m *movers) end() error {
	m.stop.Store(true)
	for _, c := range m.streams {
		if m.up {
			_ = c.SetWriteDeadline(time.Now()) // a write that waits gives up; its stream reports what else goes wrong
		} else if err := c.CloseWrite(); err != nil {
			return err
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.running.Wait()
	}()
	select {
	case <-ended:
	case err := <-m.failed:
		return err
	case <-time.After(patience):
		return fmt.Errorf("streams did not end within %s", patience)
	}
	select {
	case err := <-m.failed:
		return err
	default:
		return nil
	}
}

// cut resets every stream, and waits.
func (m *movers) cut() {
	m.stop.Store(true)
	for _, c := range m.streams {
		if c.TCPConn != nil {
			_ = c.SetLinger(0) // a reset, where the stream is still open
			_ = c.Close()
		}
	}
	m.running.Wait()
}
