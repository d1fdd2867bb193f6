package quiclink_test

import (
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
)

func BenchmarkQuiclink(b *testing.B) {
	linktest.Benchmark(b, func(b *testing.B) (link.Session, link.Session) {
		return sessions(b, nil, link.Config{}, link.Config{})
	})
}
