package backend

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fairlead/fairlead/protocol"
)

// A name that is harmless when it is checked and leads to cloud metadata when it is dialled.
func TestAReboundNameIsRefused(t *testing.T) { // S04, CVE-2020-8562
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	t.Cleanup(s.Close)
	port := netip.MustParseAddrPort(s.Listener.Addr().String()).Port()
	for _, evil := range []string{"169.254.169.254", "168.63.129.16", "100.100.100.200", "0.0.0.0", "224.0.0.1"} {
		b := to(t, Config{}, "http://rebind.test:"+strconv.Itoa(int(port)))
		dns := &rebinding{answers: [][4]byte{{127, 0, 0, 1}, netip.MustParseAddr(evil).As4()}}
		b.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: dns.dial(t)}
		if err := roundTrip(t, b, request(t, "GET", nil)); err != nil {
			t.Fatal(err)
		}
		dns.next()
		failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendRefused, false)
		_, err := b.Dial(t.Context(), nil)
		failed(t, err, protocol.BackendRefused, false)
	}
}

// rebinding is a name server in memory.
type rebinding struct {
	mu      sync.Mutex // guards:
	answers [][4]byte
}

func (r *rebinding) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = r.answers[1:]
}

func (r *rebinding) dial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for {
				// Over a stream, as net.Pipe is one to the resolver, each message has its length in front.
				var n [2]byte
				if _, err := io.ReadFull(server, n[:]); err != nil {
					return
				}
				query := make([]byte, int(n[0])<<8|int(n[1]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				b := r.answer(t, query)
				if _, err := server.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
}

func (r *rebinding) answer(t *testing.T, query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Error(err)
		return nil
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		r.mu.Lock()
		defer r.mu.Unlock()
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type},
			Body:   &dnsmessage.AResource{A: r.answers[0]},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}
