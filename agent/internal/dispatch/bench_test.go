package dispatch

import (
	"bufio"
	"io"
	"net/http"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

// BenchmarkSmallGET is one small GET from the relay's end of a link in memory to a backend on loopback and back. Its
// allocations include the test's own: the relay end and the backend.
func BenchmarkSmallGET(b *testing.B) {
	r := newRelay(b, serveHTTP(b, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	frame, err := protocol.Append(nil, &protocol.Open{
		Tunnel: "orders", Network: protocol.HTTP, CallID: "c1", Method: "GET", Path: "/v1/orders",
	})
	if err != nil {
		b.Fatal(err)
	}
	frame = append(frame, "GET /v1/orders HTTP/1.1\r\nHost: orders.dc1.example\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"...)
	br := bufio.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		s, err := r.session.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Write(frame); err != nil {
			b.Fatal(err)
		}
		if opened, err := protocol.ReadOpened(s); err != nil || opened.Code != protocol.OK {
			b.Fatalf("got %v, %v", opened, err)
		}
		br.Reset(s)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		if _, err := br.ReadByte(); err != io.EOF {
			b.Fatalf("got %v, want the end", err)
		}
		s.CloseWrite()
		s.Close()
		<-r.ended
	}
}
