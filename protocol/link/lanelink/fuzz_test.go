package lanelink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

// pieces is a connection that brings bytes in pieces of the sizes given, with a deadline that passes between them, and
// what is left at once.
type pieces struct {
	net.Conn
	bytes []byte
	sizes []byte
	ready int
}

func (c *pieces) Read(p []byte) (int, error) {
	switch {
	case len(c.bytes) == 0:
		return 0, io.EOF
	case c.ready == 0 && len(c.sizes) > 0:
		c.ready, c.sizes = int(c.sizes[0]), c.sizes[1:]
		return 0, os.ErrDeadlineExceeded
	case len(c.sizes) == 0:
		c.ready = len(c.bytes)
	}
	n := copy(p, c.bytes[:min(c.ready, len(c.bytes))])
	c.bytes, c.ready = c.bytes[n:], c.ready-n
	return n, nil
}

// follow reads a lane to its end as streams do, and tells what was on it.
func follow(bytes, sizes []byte, opens bool) (said []string, data []byte, err error) {
	l := &Lane{session: new(Session), conn: &pieces{bytes: bytes, sizes: sizes}, opens: opens}
	var b [1000]byte
	for {
		if l.in.left > 0 {
			n, err := l.readConn(b[:min(len(b), l.in.left)])
			data = append(data, b[:n]...)
			if l.in.left -= n; err != nil && !isTimeout(err) {
				return said, data, err
			}
			continue
		}
		if err := l.in.next(l); err != nil {
			if isTimeout(err) {
				continue
			}
			return said, data, err
		}
		said = append(said, fmt.Sprint(l.in.kind, l.in.left, l.in.code, l.in.read))
	}
}

func FuzzLaneReader(f *testing.F) {
	whole := link.AppendData(nil, []byte("request"))
	f.Add(appendEnd(whole, 7), []byte{1, 2, 1, 5, 3})
	f.Add(link.AppendReset(whole, 25), []byte{11, 1, 1})
	f.Add(appendEnd(appendEnd(link.AppendData(nil, make([]byte, 3000)), 0), 1<<63), []byte{0, 0, 200, 4})
	f.Add(appendEnd(appendNote(whole, make([]byte, 300)), 7), []byte{3, 2, 90, 1, 200})
	f.Add(link.AppendCredit(whole, 1), []byte{})
	f.Add([]byte{2, 0, 0, 0}, []byte{3})
	f.Fuzz(func(t *testing.T, bytes, sizes []byte) {
		said, data, err := follow(bytes, nil, false)
		if err == nil || len(data) > len(bytes) || !errors.Is(err, io.EOF) && !errors.Is(err, link.ErrMalformedChunk) {
			t.Fatalf("%d of %d bytes were data, %v", len(data), len(bytes), err)
		}
		again, dataAgain, errAgain := follow(bytes, sizes, false)
		if !slices.Equal(said, again) || !slices.Equal(data, dataAgain) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Errorf("in one piece: %v, %v\nin pieces of %v: %v, %v", said, err, sizes, again, errAgain)
		}
		// An end that comes with more behind it is the last of the opener's lane.
		strict, _, _ := follow(bytes, sizes, true)
		if len(strict) > len(said) || !slices.Equal(strict, said[:len(strict)]) {
			t.Errorf("the opener reads %v, expected no more than %v", strict, said)
		}
	})
}
