package lanelink_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/lanelink"
)

// Every byte of the stress is part of a piece that names the stream it belongs to and its place there, and bears a sum.
const pieceHeader = 8 + 4 + 4 // stream u64, number u32, payload length u32

func piece(stream uint64, number uint32, size int) []byte {
	b := binary.BigEndian.AppendUint64(nil, stream)
	b = binary.BigEndian.AppendUint32(b, number)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = append(b, bytes.Repeat(binary.BigEndian.AppendUint64(nil, stream^uint64(number)<<32), size/8)...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// errForeign is a broken promise; any other error is a stream that ended in one of the ways it may.
var errForeign = errors.New("bytes that are not this stream's")

// readPieces reads a direction to its end; stream zero takes whatever the first piece names.
func readPieces(r io.Reader, stream uint64) (named uint64, err error) {
	var head [pieceHeader]byte
	for number := uint32(0); ; number++ {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return stream, err
		}
		got := binary.BigEndian.Uint64(head[:])
		if stream == 0 {
			stream = got
		}
		size := binary.BigEndian.Uint32(head[12:])
		if got != stream || binary.BigEndian.Uint32(head[8:]) != number || size > 1<<20 {
			return stream, fmt.Errorf("%w: stream %d, expected piece %d, got % x", errForeign, stream, number, head)
		}
		body := make([]byte, size/8*8+4)
		if _, err := io.ReadFull(r, body); err != nil {
			return stream, err
		}
		if want := piece(stream, number, int(size)); string(want[pieceHeader:]) != string(body) {
			return stream, fmt.Errorf("%w: piece %d of stream %d is damaged", errForeign, number, stream)
		}
	}
}

// insistent writes on after deadlines, as net/http's background reader and others make them pass.
type insistent struct{ link.Stream }

func (s insistent) Write(p []byte) (n int, err error) {
	for {
		k, err := s.Stream.Write(p[n:])
		if n += k; !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

func (s insistent) Read(p []byte) (n int, err error) {
	for {
		if n, err = s.Stream.Read(p); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// fidget moves deadlines until stop is closed, and leaves none.
func fidget(st link.Stream, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			_ = st.SetDeadline(time.Time{})
			return
		case <-time.After(time.Duration(rand.IntN(2000)) * time.Microsecond):
		}
		_ = st.SetReadDeadline(time.Unix(1, 0))
		_ = st.SetWriteDeadline(time.Now().Add(time.Duration(rand.IntN(1000)) * time.Microsecond))
		time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		_ = st.SetDeadline(time.Time{})
	}
}

// act is one side's life with a stream, which ends in a way of chance.
func act(st link.Stream, stream uint64, calls bool) error {
	s := insistent{st}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	if rand.IntN(3) == 0 {
		wg.Go(func() { fidget(st, stop) })
	}
	if rand.IntN(40) == 0 {
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			st.Reset(uint16(rand.IntN(90) + 1))
		})
	}
	write := func(stream uint64) error {
		for number := range uint32(rand.IntN(6)) {
			size := rand.IntN(300)
			if rand.IntN(8) == 0 {
				size = rand.IntN(200_000)
			}
			if number == 4 {
				if _, err := link.Finish(st, piece(stream, number, size)); err != nil {
					st.Reset(4) // by a deadline of fidget's, perhaps
				}
				return nil
			}
			if _, err := s.Write(piece(stream, number, size)); err != nil {
				return err
			}
		}
		switch rand.IntN(40) {
		case 0:
			st.Reset(3)
		case 1:
			return st.Close()
		case 2, 3, 4, 5, 6, 7, 8, 9:
			wg.Go(func() { _ = st.CloseWrite() })
		case 10, 11, 12, 13, 14, 15, 16, 17, 18, 19:
			if st.(link.Finisher).Ended() {
				return st.(link.Finisher).CloseSoon()
			}
		}
		return st.CloseWrite()
	}
	if !calls {
		named, err := readPieces(s, 0)
		if named == 0 || errors.Is(err, errForeign) {
			return err
		}
		if err := write(named); err != nil || rand.IntN(2) == 0 {
			return err // Close without a word
		}
		return st.CloseWrite()
	}
	read := make(chan error, 1)
	wg.Go(func() { _, err := readPieces(s, stream); read <- err })
	var wrote error
	switch rand.IntN(30) {
	case 0:
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
		st.Reset(5) // unsaid, most likely with a Read that waits
	case 1:
		_ = st.Close()
	default:
		wrote = write(stream)
	}
	if rand.IntN(30) == 0 {
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		_ = st.Close()
	}
	return errors.Join(wrote, <-read)
}

// TestNoByteStraysHoweverStreamsEnd runs for seconds; FAIRLEAD_STRESS=5m makes it run for as long as that.
func TestNoByteStraysHoweverStreamsEnd(t *testing.T) {
	life := 3 * time.Second
	if v := os.Getenv("FAIRLEAD_STRESS"); v != "" {
		var err error
		if life, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	p := newPair(t, false, lanelink.Config{}, lanelink.Config{})
	const callers = 12
	before := descriptors()
	var wg sync.WaitGroup
	done := time.After(life)
	stop := make(chan struct{})
	go func() { <-done; close(stop) }()
	fail := func(err error) {
		if errors.Is(err, errForeign) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
	wg.Go(func() { // the dialler of lanes
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if all, _ := p.client.Lanes(); p.client.Free() < 4 && all < 100 {
				if _, _, err := p.add(true); err != nil && !errors.Is(err, link.ErrLost) {
					t.Error(err)
				}
			}
		}
	})
	wg.Go(func() {
		var serving sync.WaitGroup
		defer serving.Wait()
		for {
			st, err := p.server.Accept(t.Context())
			if err != nil {
				return
			}
			serving.Go(func() {
				fail(act(st, 0, false))
				_ = st.Close()
			})
		}
	})
	var calling sync.WaitGroup
	var streams [callers]int
	for c := range uint64(callers) {
		calling.Go(func() {
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				st, err := p.client.Open(t.Context())
				if errors.Is(err, link.ErrStreamLimit) {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				streams[c]++
				fail(act(st, c<<40|n, true))
				_ = st.Close()
			}
		})
	}
	calling.Wait()
	eventually(t, "no stream is left", func() bool { return p.client.Streams() == 0 && p.server.Streams() == 0 })
	p.client.Close(nil)
	p.server.Close(nil)
	wg.Wait()
	eventually(t, "no descriptor is left", func() bool { return descriptors() <= before })
	n := 0
	for _, k := range streams {
		n += k
	}
	t.Logf("%d streams", n)
}

// descriptors counts the open ones; zero where the system does not tell.
func descriptors() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}
