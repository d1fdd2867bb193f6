//go:build unix

package dispatch

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/protocol"
)

// BenchmarkGET is one GET from the relay's end of a link in memory to a backend on loopback and back. Both ends of it
// are as cheap as they can be, so that most of the time, and of the allocations, is the agent's.
func BenchmarkGET(b *testing.B) {
	for name, size := range map[string]int{"small": 200, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			r := newRelay(b, canned(b, size))
			frame, err := protocol.Append(nil, &protocol.Open{
				Tunnel: "orders", Network: protocol.HTTP, CallID: "c1", Method: "GET", Path: "/v1/orders",
			})
			if err != nil {
				b.Fatal(err)
			}
			frame = append(frame, "GET /v1/orders?id=7 HTTP/1.1\r\nHost: orders.dc1.example\r\nUser-Agent: shop/1.0\r\nAccept: application/json\r\n"+
				"Accept-Encoding: gzip\r\nFairlead-Call-Id: c1\r\nFairlead-Tunnel: orders\r\nFairlead-Caller: spiffe://cloud.example/api/shop\r\n"+
				"Forwarded: for=192.0.2.1;host=\"orders.dc1.example\";proto=https\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"...)
			answer := make([]byte, 128<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				s, err := r.session.Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Write(frame); err != nil {
					b.Fatal(err)
				}
				n := 0
				for err == nil {
					var k int
					k, err = s.Read(answer[n:])
					n += k
				}
				if err != io.EOF || n < size {
					b.Fatalf("got %d bytes, %v", n, err)
				}
				s.CloseWrite()
				s.Close()
				<-r.ended
			}
		})
	}
}

// canned is a backend that answers every request without a body with size bytes.
func canned(b *testing.B, size int) config.Tunnel {
	b.Helper()
	answer := []byte("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: orders\r\nContent-Type: application/json\r\n" +
		"Cache-Control: no-cache\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
	answer = append(answer, bytes.Repeat([]byte("x"), size)...)
	var lc net.ListenConfig
	l, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for br := bufio.NewReader(c); ; {
					for end := false; !end; {
						line, err := br.ReadSlice('\n')
						if err != nil {
							return
						}
						end = len(line) == 2
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	b.Cleanup(func() { l.Close(); wg.Wait() })
	return tunnelTo(b, "http://"+l.Addr().String())
}

// reportCPU reports what the process takes of the CPU for each call, steadier than its time on a machine that
// others use too.
func reportCPU(b *testing.B) func() {
	used := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
	}
	before := used()
	return func() { b.ReportMetric((used()-before)/float64(b.N), "cpu-us/op") }
}
