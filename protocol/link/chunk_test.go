package link_test

import (
	"bytes"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

// The bytes are the wire format: they do not change.
func TestChunksKeepTheirBytes(t *testing.T) {
	for name, c := range map[string]struct{ got, want []byte }{
		"data":   {link.AppendData(nil, []byte("hi")), []byte{1, 0, 0, 2, 'h', 'i'}},
		"end":    {link.AppendEnd(nil), []byte{2, 0, 0, 0}},
		"reset":  {link.AppendReset(nil, 0x0103), []byte{3, 0, 0, 2, 1, 3}},
		"credit": {link.AppendCredit(nil, 0x01020304), []byte{4, 0, 0, 4, 1, 2, 3, 4}},
		"large":  {link.AppendData(nil, make([]byte, link.MaxChunkData))[:4], []byte{1, 1, 0, 0}},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: got % x, expected % x", name, c.got, c.want)
		}
		if _, err := link.ParseChunkHeader([4]byte(c.want)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzChunkHeader(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2})
	f.Add([]byte{4, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < link.ChunkHeaderSize {
			return
		}
		h, err := link.ParseChunkHeader([link.ChunkHeaderSize]byte(b))
		if err == nil && (h.Length < 0 || h.Length > link.MaxChunkData) {
			t.Errorf("% x: a length of %d passed", b[:4], h.Length)
		}
	})
}

func TestBudgetIsNeverOverdrawn(t *testing.T) {
	b := link.NewBudget(100)
	if !b.Take(60) || b.Take(41) || !b.Take(40) || b.Take(1) {
		t.Error("took more or less than there is")
	}
	b.Give(60)
	if b.Left() != 60 {
		t.Errorf("%d left, expected 60", b.Left())
	}
}
