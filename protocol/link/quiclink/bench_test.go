package quiclink_test

import (
	"context"
	"io"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

func BenchmarkQuiclink(b *testing.B) {
	linktest.Benchmark(b, func(b *testing.B) (link.Session, link.Session) {
		return sessions(b, nil, link.Config{}, link.Config{})
	})
}

// BenchmarkBare is quic-go without us: what Quiclink's bulk is compared with.
func BenchmarkBare(b *testing.B) {
	b.Run("Bulk1", func(b *testing.B) { bare(b, 1) })
	b.Run("Bulk8", func(b *testing.B) { bare(b, 8) })
}

func bare(b *testing.B, streams int) {
	serverConf, clientConf := linktest.TLSConfigs(b)
	conf := quiclink.QUICConfig(link.Config{})
	ln, err := quic.ListenAddr("127.0.0.1:0", serverConf, conf)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	client, err := quic.DialAddr(b.Context(), ln.Addr().String(), clientConf, conf)
	if err != nil {
		b.Fatal(err)
	}
	defer client.CloseWithError(0, "")
	server, err := ln.Accept(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	linktest.Bulk(b, streams,
		func() (linktest.WriteCloser, error) {
			st, err := client.OpenStream()
			return bareStream{st}, err
		},
		func() (io.Reader, error) { return server.AcceptStream(context.Background()) })
}

type bareStream struct{ *quic.Stream }

func (s bareStream) CloseWrite() error { return s.Close() }
