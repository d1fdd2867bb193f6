package backend

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

// What a backend sends behind a response is read ahead with it. The connection is idle before net/http looks at that,
// and who takes it in this moment would get it for an answer: somebody else's.
func TestASecondResponseIsNeverAnotherCallsAnswer(t *testing.T) { // W06
	for name, first := range map[string]string{
		"after a body":    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst",
		"without a body":  "HTTP/1.1 204 No Content\r\n\r\n",
		"a body for HEAD": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := to(t, Config{}, "http://"+listen(t, func(c net.Conn) {
				br := bufio.NewReader(c)
				for {
					h := readHeader(br)
					if h == "" {
						return
					}
					if strings.Contains(h, "Other: yes") {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")
						continue
					}
					io.WriteString(c, first+"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother")
				}
			}))
			for range 2000 {
				method := "GET"
				if name == "a body for HEAD" {
					method = "HEAD"
				}
				if err := roundTrip(t, b, request(t, method, nil)); err != nil {
					t.Fatal(err)
				}
				req := request(t, "GET", nil)
				req.Header.Set("Other", "yes")
				resp, err := b.RoundTrip(req)
				if err != nil {
					if e, ok := errors.AsType[*protocol.Error](err); !ok || e.Code != protocol.BackendProtocol && e.Code != protocol.BackendUnreachable {
						t.Fatal(err)
					}
					continue
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(body) != "own" {
					t.Fatalf("got %q (%v), which another call was answered with", body, err)
				}
			}
		})
	}
}
