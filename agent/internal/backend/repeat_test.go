package backend

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

// A kept-alive connection takes a second request and dies without an answer: the request may have been carried out,
// and net/http would send it again.
func TestARequestThatMayHaveBeenSentIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		method string
		header string
	}{
		{"GET", ""}, {"HEAD", ""}, {"OPTIONS", ""}, {"TRACE", ""}, {"DELETE", ""}, {"POST", ""},
		{"POST", "Idempotency-Key"}, {"PUT", "X-Idempotency-Key"}, {"GET", "Idempotency-Key"},
	} {
		t.Run(c.method+c.header, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			address := listen(t, func(conn net.Conn) {
				br := bufio.NewReader(conn)
				for i := range 2 {
					h := readHeader(br)
					if h == "" {
						return
					}
					mu.Lock()
					seen = append(seen, h)
					mu.Unlock()
					if i == 0 {
						io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				}
			})
			b := to(t, Config{}, "http://"+address)
			for i := range 2 {
				req := request(t, c.method, nil)
				if c.header != "" {
					req.Header.Set(c.header, "k1")
				}
				err := roundTrip(t, b, req)
				if i == 0 {
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				failed(t, err, protocol.BackendProtocol, true)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != 2 {
				t.Errorf("the backend saw %d requests, want 2", len(seen))
			}
			if c.header != "" && !strings.Contains(strings.ToLower(seen[0]), strings.ToLower(c.header)+": k1\r\n") {
				t.Errorf("the key is gone: %q", seen[0])
			}
		})
	}
}

func TestARequestWithoutBodyIsSentWithoutFraming(t *testing.T) {
	for method, want := range map[string]string{
		"GET":  "GET /v1 HTTP/1.1\r\nHost: orders\r\n\r\n",
		"POST": "POST /v1 HTTP/1.1\r\nHost: orders\r\nContent-Length: 0\r\n\r\n",
	} {
		got := make(chan string, 1)
		b := to(t, Config{}, "http://"+listen(t, func(c net.Conn) {
			got <- readHeader(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}))
		if err := roundTrip(t, b, request(t, method, nil)); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
}

// dyingConn is a connection whose peer has gone, which only a write finds out.
type dyingConn struct {
	Conn
	dead *bool
}

func (c dyingConn) Write(p []byte) (int, error) {
	if *c.dead {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

func TestARequestOfWhichNothingWasSentIsRepeated(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) }))
	t.Cleanup(s.Close)
	for name, b := range map[string]*Backend{"direct": to(t, Config{}, s.URL), "net/http": to(t, Config{}, s.URL)} {
		t.Run(name, func(t *testing.T) {
			kill := killer(b, name == "net/http")
			for _, method := range []string{"GET", "POST"} {
				if err := roundTrip(t, b, request(t, method, nil)); err != nil {
					t.Fatal(err)
				}
				kill()
				if err := roundTrip(t, b, request(t, method, nil)); err != nil {
					t.Errorf("%s without body: got %v, want a second try", method, err)
				}
			}
			// With a body too, as long as the dead connection took none of it.
			kill()
			resp, err := b.RoundTrip(request(t, "POST", struct{ io.Reader }{strings.NewReader("order")}))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "order" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// killer returns what makes the next write on the kept connection fail.
func killer(b *Backend, netHTTP bool) func() {
	if !netHTTP && b.pool != nil {
		return func() {
			c := b.pool.idle[0]
			c.Conn = dyingConn{c.Conn, new(true)}
		}
	}
	b.pool = nil
	var dead *bool
	dial := b.main.DialContext
	b.main.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		dead = new(bool)
		cc := c.(*countedConn)
		cc.Conn = dyingConn{cc.Conn, dead}
		return cc, nil
	}
	return func() { *dead = true }
}
