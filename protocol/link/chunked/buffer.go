package chunked

import "sync"

// Segment sizes in bytes: small ones for streams that hold little, so that thousands of idle streams with a few bytes
// unread stay cheap whatever the size of the chunks.
const (
	smallSegment = 2 << 10
	largeSegment = 16 << 10
)

var (
	smallSegments = sync.Pool{New: func() any { return new([smallSegment]byte) }}
	largeSegments = sync.Pool{New: func() any { return new([largeSegment]byte) }}
)

type segment struct {
	b    []byte
	r, w int // unread are b[r:w]
}

// buffer is what has arrived and was not read: a list of pooled segments, empty when idle. It is not safe for
// concurrent use, except that the bytes from reserve may be filled while others read.
type buffer struct {
	segs    []segment
	one     [1]segment // what segs begins with: most streams never hold more
	size    int        // bytes unread
	filling bool       // the last segment's tail is being filled: it stays
}

// reserve returns room for up to n more bytes; commit must follow.
func (b *buffer) reserve(n int) []byte {
	if k := len(b.segs); k == 0 || b.segs[k-1].w == len(b.segs[k-1].b) {
		seg := segment{}
		if n <= smallSegment && b.size < smallSegment {
			seg.b = smallSegments.Get().(*[smallSegment]byte)[:]
		} else {
			seg.b = largeSegments.Get().(*[largeSegment]byte)[:]
		}
		if b.segs == nil {
			b.segs = b.one[:0]
		}
		b.segs = append(b.segs, seg)
	}
	b.filling = true
	tail := &b.segs[len(b.segs)-1]
	room := tail.b[tail.w:]
	return room[:min(n, len(room))]
}

// commit adds the first n bytes of what reserve returned.
func (b *buffer) commit(n int) {
	b.filling = false
	b.segs[len(b.segs)-1].w += n
	b.size += n
	b.recycle()
}

// read moves bytes to p and returns how many.
func (b *buffer) read(p []byte) int {
	n := 0
	for n < len(p) && b.size > 0 {
		head := &b.segs[0]
		k := copy(p[n:], head.b[head.r:head.w])
		head.r += k
		b.size -= k
		n += k
		b.recycle()
	}
	return n
}

// drop forgets everything unread.
func (b *buffer) drop() {
	for i := range b.segs {
		b.segs[i].r = b.segs[i].w
	}
	b.size = 0
	b.recycle()
}

// recycle gives back the segments in front that were read.
func (b *buffer) recycle() {
	for len(b.segs) > 0 {
		head := &b.segs[0]
		if head.r < head.w || b.filling && len(b.segs) == 1 {
			return
		}
		// A tail with room is given back too when it was read: an idle stream holds nothing.
		if len(head.b) == smallSegment {
			smallSegments.Put((*[smallSegment]byte)(head.b))
		} else {
			largeSegments.Put((*[largeSegment]byte)(head.b))
		}
		*head = segment{}
		b.segs = b.segs[1:]
	}
	b.segs = nil
}
