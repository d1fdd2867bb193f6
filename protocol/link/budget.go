package link

import "sync/atomic"

// A Budget bounds the bytes by which a session's windows may grow together. It is safe for concurrent use.
type Budget struct{ left atomic.Int64 }

// NewBudget makes a budget of that many bytes.
func NewBudget(bytes int) *Budget {
	b := &Budget{}
	b.left.Store(int64(bytes))
	return b
}

// Take takes n bytes; false, and nothing taken, where fewer are left.
func (b *Budget) Take(n int) bool {
	for {
		left := b.left.Load()
		if left < int64(n) {
			return false
		}
		if b.left.CompareAndSwap(left, left-int64(n)) {
			return true
		}
	}
}

// Give returns n bytes that were taken.
func (b *Budget) Give(n int) { b.left.Add(int64(n)) }

// Left returns the bytes that can still be taken.
func (b *Budget) Left() int { return int(b.left.Load()) }
