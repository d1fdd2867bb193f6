package yamuxlink_test

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
)

func BenchmarkYamuxlink(b *testing.B) {
	linktest.Benchmark(b, func(b *testing.B) (link.Session, link.Session) {
		return sessions(b, linktest.NewNetwork(b, false, corked), link.Config{}, link.Config{})
	})
}

// BenchmarkTLS is a TLS connection for each stream: what Yamuxlink's bulk is compared with.
func BenchmarkTLS(b *testing.B) {
	b.Run("Bulk1", func(b *testing.B) { bare(b, 1) })
	b.Run("Bulk8", func(b *testing.B) { bare(b, 8) })
}

func bare(b *testing.B, streams int) {
	clients, servers := make(chan *tls.Conn, streams), make(chan *tls.Conn, streams)
	network := linktest.NewNetwork(b, false, nil)
	for range streams {
		client, server, err := network.Connect()
		if err != nil {
			b.Fatal(err)
		}
		defer server.Close()
		defer client.Close()
		clients <- client
		servers <- server
	}
	linktest.Bulk(b, streams,
		func() (linktest.WriteCloser, error) { return <-clients, nil },
		func() (io.Reader, error) { return <-servers, nil })
}
