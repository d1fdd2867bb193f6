package protocol

import (
	"bytes"
	"testing"
)

// The messages of a call, which are what the codec's cost counts for.
func BenchmarkCodec(b *testing.B) {
	for _, g := range golden() {
		switch g.name {
		case "open_http", "open_tcp_with_grant", "opened":
			b.Run("append/"+g.name, func(b *testing.B) { benchmarkAppend(b, g.m) })
			b.Run("read/"+g.name, func(b *testing.B) { benchmarkRead(b, g.m) })
		}
	}
}

func benchmarkAppend(b *testing.B, m Message) {
	buf := make([]byte, 0, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Append(buf, m); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkRead(b *testing.B, m Message) {
	whole, err := Append(nil, m)
	if err != nil {
		b.Fatal(err)
	}
	r := bytes.NewReader(whole)
	_, opens := m.(*Open)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(whole)
		var err error
		if opens {
			_, err = ReadOpen(r)
		} else {
			_, err = ReadOpened(r)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
