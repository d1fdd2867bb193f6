package linktest

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

// Benchmark measures a link: bulk over one stream and over eight, and round trips of 1 KiB, each on a stream of its
// own as a call is.
func Benchmark(b *testing.B, open func(b *testing.B) (client, server link.Session)) {
	b.Run("Bulk1", func(b *testing.B) { bulk(b, open, 1) })
	b.Run("Bulk8", func(b *testing.B) { bulk(b, open, 8) })
	b.Run("Calls1", func(b *testing.B) { calls(b, open, 1) })
	b.Run("Calls32", func(b *testing.B) { calls(b, open, 32) })
}

// bulk carries 1 MiB an iteration on each stream.
func bulk(b *testing.B, open func(b *testing.B) (client, server link.Session), streams int) {
	client, server := open(b)
	var readers, writers sync.WaitGroup
	block := make([]byte, 1<<20)
	tokens := make(chan struct{})
	for range streams {
		readers.Go(func() {
			st, err := server.Accept(context.Background())
			if err == nil {
				_, err = io.Copy(io.Discard, struct{ io.Reader }{st})
			}
			if err != nil {
				b.Error(err)
			}
		})
		writers.Go(func() {
			st, err := client.Open(context.Background())
			if err != nil {
				b.Error(err)
				return
			}
			for range tokens {
				if _, err := st.Write(block); err != nil {
					b.Error(err)
				}
			}
			_ = st.CloseWrite()
		})
	}
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		tokens <- struct{}{}
	}
	close(tokens)
	writers.Wait()
	readers.Wait()
}

// calls makes one call an iteration, so many at a time.
func calls(b *testing.B, open func(b *testing.B) (client, server link.Session), parallel int) {
	client, server := open(b)
	wait := echo(server)
	var callers sync.WaitGroup
	tokens := make(chan struct{})
	for range parallel {
		callers.Go(func() {
			for range tokens {
				if err := call(client); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		tokens <- struct{}{}
	}
	close(tokens)
	callers.Wait()
	client.Close(nil)
	wait()
}

func call(s link.Session) error {
	st, err := s.Open(context.Background())
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := st.Write(make([]byte, 1024)); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, struct{ io.Reader }{st})
	return err
}
