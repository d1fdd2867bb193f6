package chunked

import (
	"bytes"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// nowhere is a carrier that costs nothing, so that what is measured is the stream's own.
type nowhere struct{}

func (nowhere) Data(p []byte, _, _ <-chan struct{}) int { return len(p) }
func (nowhere) End()                                    {}
func (nowhere) Reset(uint16)                            {}
func (nowhere) Credit(uint32)                           {}
func (nowhere) RTT() time.Duration                      { return 0 }
func (nowhere) Release(bool)                            {}

func BenchmarkStream(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "16KiB": link.WriteSize} {
		b.Run("receive/"+name, func(b *testing.B) {
			s := New(nowhere{}, link.Config{}.WithDefaults(), link.NewBudget(64<<20))
			chunk, p := link.AppendData(nil, make([]byte, size)), make([]byte, size)
			r := bytes.NewReader(chunk)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(chunk)
				if err := s.ReadChunk(r); err != nil {
					b.Fatal(err)
				}
				if n, err := s.Read(p); n != size || err != nil {
					b.Fatalf("read %d bytes, %v", n, err)
				}
			}
		})
		b.Run("send/"+name, func(b *testing.B) {
			s := New(nowhere{}, link.Config{}.WithDefaults(), link.NewBudget(64<<20))
			credit, p := link.AppendCredit(nil, uint32(cost(size))), make([]byte, size)
			r := bytes.NewReader(credit)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(credit)
				if err := s.ReadChunk(r); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
