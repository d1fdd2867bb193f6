package chunked

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// record is a Carrier that remembers.
type record struct {
	data     int
	ends     int
	resets   []uint16
	credit   int
	released int
}

func (r *record) RTT() time.Duration                      { return 0 }
func (r *record) Data(p []byte, _, _ <-chan struct{}) int { r.data += len(p); return len(p) }
func (r *record) End()                                    { r.ends++ }
func (r *record) Reset(code uint16)                       { r.resets = append(r.resets, code) }
func (r *record) Credit(n uint32)                         { r.credit += int(n) }
func (r *record) Release(bool)                            { r.released++ }

func newStream() (*Stream, *record) {
	r := &record{}
	return New(r, link.Config{InitialWindow: 64 << 10, MaxWindow: 64 << 10}, link.NewBudget(0)), r
}

func feed(t *testing.T, s *Stream, chunks ...[]byte) error {
	t.Helper()
	for _, c := range chunks {
		if err := s.ReadChunk(bytes.NewReader(c)); err != nil {
			return err
		}
	}
	return nil
}

func TestPeerBeyondItsWindowIsCaught(t *testing.T) {
	for name, size := range map[string]int{"large chunks": 16 << 10, "chunks of one byte": 1} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStream()
			sent := 0
			var err error
			for err == nil && sent <= 64<<10 {
				err = feed(t, s, link.AppendData(nil, make([]byte, size)))
				sent += size + link.ChunkHeaderSize
			}
			if !errors.Is(err, link.ErrPeerFlooded) {
				t.Errorf("after %d bytes: got %v, expected ErrPeerFlooded", sent, err)
			}
		})
	}
}

func TestPeerThatSendsOnAfterAResetGetsNoCredit(t *testing.T) {
	s, r := newStream()
	s.Reset(16)
	var err error
	for i := 0; err == nil && i < 10; i++ {
		err = feed(t, s, link.AppendData(nil, make([]byte, 16<<10)))
	}
	if !errors.Is(err, link.ErrPeerFlooded) || r.credit != 0 || s.buf.size != 0 {
		t.Errorf("got %v, %d bytes of credit, %d bytes kept; expected ErrPeerFlooded and none", err, r.credit, s.buf.size)
	}
}

func TestChunksThatNoHonestPeerSendsAreRefused(t *testing.T) {
	for name, chunks := range map[string][][]byte{
		"unknown type":        {{9, 0, 0, 0}},
		"empty data":          {{1, 0, 0, 0}},
		"data beyond 64 KiB":  {{1, 1, 0, 1}},
		"end with a payload":  {{2, 0, 0, 1, 0}},
		"short reset":         {{3, 0, 0, 1, 0}},
		"long credit":         {{4, 0, 0, 5, 0, 0, 0, 0, 0}},
		"data after the end":  {link.AppendEnd(nil), link.AppendData(nil, []byte("x"))},
		"two ends":            {link.AppendEnd(nil), link.AppendEnd(nil)},
		"credit that runs up": {link.AppendCredit(nil, 1<<30-1), link.AppendCredit(nil, 1<<30-1)},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStream()
			if err := feed(t, s, chunks...); !errors.Is(err, link.ErrMalformedChunk) {
				t.Errorf("got %v, expected ErrMalformedChunk", err)
			}
		})
	}
}

func TestCutInsideAChunkIsNoEnd(t *testing.T) {
	for name, chunk := range map[string][]byte{
		"in a header": {1, 0},
		"in data":     link.AppendData(nil, []byte("half"))[:6],
		"in a reset":  link.AppendReset(nil, 5)[:5],
		"before data": {1, 0, 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStream()
			if err := s.ReadChunk(bytes.NewReader(chunk)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v, expected io.ErrUnexpectedEOF", err)
			}
		})
	}
}

func TestStreamIsReleasedOnceBothEndsAreReadAndSaid(t *testing.T) {
	s, r := newStream()
	if err := feed(t, s, link.AppendData(nil, []byte("tail")), link.AppendEnd(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if r.released != 0 {
		t.Fatal("released with bytes still to be read")
	}
	if _, err := io.ReadAll(s); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s.Reset(1)
	s.Fail(&link.LostError{})
	if r.released != 1 || r.ends != 1 || len(r.resets) != 0 {
		t.Errorf("released %d times, %d ends, resets %v; expected 1, 1, none", r.released, r.ends, r.resets)
	}
}

func TestResetAfterBothEndsLeavesWhatIsUnread(t *testing.T) {
	s, r := newStream()
	if err := feed(t, s, link.AppendData(nil, []byte("tail")), link.AppendEnd(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.Reset(1)
	s.Cut(&link.LostError{})
	if got, err := io.ReadAll(s); err != nil || string(got) != "tail" || len(r.resets) != 0 {
		t.Errorf("read %q, %v, resets %v; expected all of it and no reset", got, err, r.resets)
	}
}

func TestIdleStreamHoldsNoBuffer(t *testing.T) {
	s, _ := newStream()
	for range 5 {
		if err := feed(t, s, link.AppendData(nil, make([]byte, 10_000)), link.AppendData(nil, []byte("x"))); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 10_001)); err != nil {
			t.Fatal(err)
		}
		if s.buf.segs != nil {
			t.Fatalf("%d segments held with nothing unread", len(s.buf.segs))
		}
	}
}

func FuzzReadChunk(f *testing.F) {
	f.Add(link.AppendData(nil, []byte("hello")), 3)
	f.Add(link.AppendEnd(link.AppendData(nil, make([]byte, 3000))), 4096)
	f.Add(link.AppendReset(link.AppendCredit(nil, 7), 29), 1)
	f.Add([]byte{1, 0, 255, 255, 0}, 10)
	f.Fuzz(func(t *testing.T, b []byte, readSize int) {
		s, r := newStream()
		in := bytes.NewReader(b)
		p := make([]byte, min(max(readSize, 1), 1<<16))
		taken := 0
		for {
			if err := s.ReadChunk(in); err != nil {
				break
			}
			if s.buf.size > 0 && len(b)%2 == 0 { // half of the inputs are read on the way
				n, err := s.Read(p)
				if err != nil {
					t.Fatalf("Read with %d bytes there: %v", s.buf.size, err)
				}
				taken += n
			}
			if s.buf.size+s.window.granted > s.window.size {
				t.Fatalf("%d bytes held and %d promised in a window of %d", s.buf.size, s.window.granted, s.window.size)
			}
			if taken+s.buf.size > len(b) {
				t.Fatalf("%d bytes came out of %d", taken+s.buf.size, len(b))
			}
		}
		s.Reset(96)
		if r.released != 1 || s.buf.size != 0 {
			t.Fatalf("released %d times with %d bytes held", r.released, s.buf.size)
		}
	})
}
