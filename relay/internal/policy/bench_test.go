package policy

import "testing"

// BenchmarkDecideWarm is the usual call: an SVID that was judged before, a token that was verified before, an
// expression.
func BenchmarkDecideWarm(b *testing.B) {
	w := newWorld(b)
	r := get(w.api(), orders, w.reader())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.gate.Decide(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecideUnknown is what a stranger without an SVID costs.
func BenchmarkDecideUnknown(b *testing.B) {
	w := newWorld(b)
	r := get(nil, orders, "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.gate.Decide(b.Context(), r); err == nil {
			b.Fatal("let pass")
		}
	}
}
