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
	b.Run("Trips1", func(b *testing.B) {
		client, server := open(b)
		wait := echo(server)
		st, err := client.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		Trips(b, st)
		client.Close(nil)
		wait()
	})
	b.Run("Calls1", func(b *testing.B) { calls(b, open, 1) })
	b.Run("Calls32", func(b *testing.B) { calls(b, open, 32) })
}

// Trips sends 1 KiB and reads it back, again and again, and reports the CPU time of both ends together.
func Trips(b *testing.B, echo io.ReadWriter) {
	message, answer := make([]byte, 1<<10), make([]byte, 1<<10)
	b.ReportAllocs()
	before := cpuTime()
	for b.Loop() {
		if _, err := echo.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(echo, answer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func bulk(b *testing.B, open func(b *testing.B) (client, server link.Session), streams int) {
	client, server := open(b)
	Bulk(b, streams,
		func() (WriteCloser, error) { return client.Open(context.Background()) },
		func() (io.Reader, error) { return server.Accept(context.Background()) })
}

// A WriteCloser is one way of a connection.
type WriteCloser interface {
	io.Writer
	CloseWrite() error
}

// copySize is what is written and read at once, in bytes: as link.Splice does.
const copySize = 2 * link.WriteSize

// Bulk carries 1 MiB an iteration over so many connections, and reports what a GiB costs in CPU time, both ends
// together: for links, and for whatever a link is compared with.
func Bulk(b *testing.B, streams int, open func() (WriteCloser, error), accept func() (io.Reader, error)) {
	const size = 1 << 20
	var readers, writers sync.WaitGroup
	tokens := make(chan struct{})
	for range streams {
		readers.Go(func() {
			r, err := accept()
			if err == nil {
				_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, copySize))
			}
			if err != nil {
				b.Error(err)
			}
		})
		writers.Go(func() {
			w, err := open()
			if err != nil {
				b.Error(err)
				return
			}
			block := make([]byte, copySize)
			for range tokens {
				for left := size; left > 0; left -= min(left, len(block)) {
					if _, err := w.Write(block[:min(left, len(block))]); err != nil {
						b.Error(err)
					}
				}
			}
			_ = w.CloseWrite()
		})
	}
	b.SetBytes(size)
	b.ReportAllocs()
	before := cpuTime()
	for b.Loop() {
		tokens <- struct{}{}
	}
	close(tokens)
	writers.Wait()
	readers.Wait()
	b.ReportMetric((cpuTime()-before).Seconds()/float64(b.N)*1024, "cpu-s/GiB")
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
