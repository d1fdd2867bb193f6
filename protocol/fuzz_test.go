package protocol

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzFrames feeds arbitrary bytes to the decoder: no panic, and what decodes encodes to something that decodes to
// the same message.
func FuzzFrames(f *testing.F) {
	for _, v := range readVectors(f) {
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readAny(b)
		if err != nil {
			return
		}
		again, err := Append(nil, m)
		if err != nil {
			t.Fatalf("decoded %+v does not encode: %v", m, err)
		}
		m2, err := readAny(again)
		if err != nil {
			t.Fatalf("encoded again as %x: %v", again, err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	all := golden()
	m := all[slices.IndexFunc(all, func(g namedMessage) bool { return g.name == "open_http" })].m
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = Append(buf[:0], m); err != nil {
			b.Fatal(err)
		}
		if _, err := readAny(buf); err != nil {
			b.Fatal(err)
		}
	}
}
