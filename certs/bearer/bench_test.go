package bearer_test

import (
	"context"
	"fmt"
	"testing"
)

func BenchmarkVerifyWarm(b *testing.B) {
	idp, v := fromFile(b)
	raw := idp.Mint(b, map[string]any{"scope": "orders.read"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(context.Background(), raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyCold(b *testing.B) {
	idp, v := fromFile(b)
	raws := make([]string, 10000) // more than are remembered
	for i := range raws {
		raws[i] = idp.Mint(b, map[string]any{"scope": "orders.read", "jti": fmt.Sprint(i)})
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := v.Verify(context.Background(), raws[n%len(raws)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
