package dispatch

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/agent/internal/guard"
	"github.com/fairlead/fairlead/protocol"
)

func TestAnHTTPCallReachesItsBackend(t *testing.T) {
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Seen", req.Method+" "+req.RequestURI+" "+req.Host)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "got %s", b)
	}))
	a := r.do(request(t, "POST", "/v1/a%2Fb?x=1;y=2&z", strings.NewReader("an order")))
	if a.opened.Code != protocol.OK || a.StatusCode != http.StatusCreated || a.body(t) != "got an order" {
		t.Errorf("got %+v, %v", a.opened, a.Response)
	}
	if got, want := a.Header.Get("X-Seen"), "POST /v1/a%2Fb?x=1;y=2&z orders.dc1.example"; got != want {
		t.Errorf("the backend saw %q, want %q", got, want)
	}
	rep := r.report()
	if rep.Code != protocol.OK || rep.Status != 201 || !rep.Sent || rep.In == 0 || rep.Out == 0 || rep.Total <= 0 {
		t.Errorf("got report %+v", rep)
	}
}

func TestTheStreamEndsAfterTheResponse(t *testing.T) {
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }))
	req := request(t, "GET", "/", nil)
	s := r.send(req)
	a := r.answer(s, req)
	if a.body(t) != "x" {
		t.Error("wrong body")
	}
	if _, err := a.br.ReadByte(); err != io.EOF {
		t.Errorf("behind the response: got %v, want the end", err)
	}
	// The stream is released once this side ends too.
	if err := s.CloseWrite(); err != nil {
		t.Error(err)
	}
}

func TestBackendConnectionsAreKept(t *testing.T) {
	conns := map[string]bool{}
	r := newRelay(t, serveHTTP(t, func(_ http.ResponseWriter, req *http.Request) { conns[req.RemoteAddr] = true }))
	for range 5 {
		req := request(t, "GET", "/", nil)
		s := r.send(req)
		a := r.answer(s, req)
		a.body(t)
		s.Close()
		r.report()
	}
	if len(conns) != 1 {
		t.Errorf("got %d backend connections for 5 calls, want 1", len(conns))
	}
}

func TestALargeBodyCrossesBothWays(t *testing.T) {
	const size = 2 << 20
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(b)
	}))
	for _, chunked := range []bool{false, true} {
		req := request(t, "PUT", "/", bytes.NewReader(body))
		if chunked {
			req.ContentLength = -1
		}
		if sum := sha256.Sum256([]byte(r.do(req).body(t))); sum != sha256.Sum256(body) {
			t.Errorf("chunked=%t: the body changed on its way", chunked)
		}
	}
}

func TestTrailersCrossBothWays(t *testing.T) {
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		if _, err := io.Copy(w, req.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Sum", req.Trailer.Get("X-Request-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
		for name := range req.Trailer {
			if name != "X-Request-Sum" {
				t.Errorf("the backend got trailer %s", name)
			}
		}
	}))
	req := request(t, "POST", "/", io.NopCloser(strings.NewReader("body")))
	// W04
	req.Trailer = http.Header{"X-Request-Sum": {"42"}, "Authorization": {"x"}, "Fairlead-Caller": {"x"}, "Fairlead_caller": {"x"}, "Txn-Token": {"x"}}
	a := r.do(req)
	if got := a.body(t); got != "body" {
		t.Errorf("got body %q", got)
	}
	if a.Trailer.Get("X-Sum") != "42" || a.Trailer.Get("X-Late") != "unannounced" {
		t.Errorf("got trailers %v", a.Trailer)
	}
}

func TestForwardingHeadersOfTheRelayPassAndWhoCallsIsTheGrantsWord(t *testing.T) {
	var got http.Header
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		got = req.Header.Clone()
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	}))
	req := request(t, "GET", "/", nil)
	req.Header = http.Header{
		"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"a"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=192.0.2.1"},
		"Fairlead-Caller": {"spiffe://cloud.example/api/evil"}, "Fairlead-User": {"evil"}, "Fairlead-Call-Id": {"evil"}, "Txn-Token": {"evil"}, // the relay's own lies
		"Fairlead_Caller": {"evil"}, "Fairlead_User": {"evil"}, "TXN_token": {"evil"}, "X_Forwarded_For": {"evil"}, // W03
		"Connection": {"Fairlead-Caller, X-Custom, X-Forwarded-For"}, "X-Custom": {"1"}, "Keep-Alive": {"1"}, // W02
		"Te": {"trailers"}, "Proxy-Authorization": {"secret"}, "User-Agent": {"curl"}, "my_header": {"kept"},
	}
	a := r.do(req)
	a.body(t)
	want := http.Header{
		"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"a"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=192.0.2.1"},
		"Fairlead-Call-Id": {"c1"}, "Fairlead-Tunnel": {"orders"}, "Te": {"trailers"}, "User-Agent": {"curl"}, "My_header": {"kept"},
	}
	for name, values := range want {
		if !slices.Equal(got[name], values) {
			t.Errorf("%s: the backend got %q, want %q", name, got[name], values)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("the backend got %s: %q", name, got[name])
		}
	}
	for _, name := range []string{"X-Hop", "Keep-Alive", "Content-Type"} {
		if v, ok := a.Header[name]; ok {
			t.Errorf("the response has %s: %q", name, v)
		}
	}
	if len(a.Header["Date"]) != 1 {
		t.Errorf("got Date %q, want the backend's", a.Header["Date"])
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) { // S05
	r := newRelay(t, serveHTTP(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/" {
			t.Errorf("the agent followed to %s", req.URL)
		}
		http.Redirect(w, req, "/other", http.StatusFound)
	}))
	if a := r.do(request(t, "GET", "/", nil)); a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/other" {
		t.Errorf("got %d %v", a.StatusCode, a.Header)
	}
}

func TestRefusalsLeaveTheBackendAlone(t *testing.T) {
	tunnel := serveHTTP(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("the backend got %s %s", req.Method, req.URL) })
	p, err := guard.ParsePathPattern("/accounting/**")
	if err != nil {
		t.Fatal(err)
	}
	tunnel.Allow.Methods, tunnel.Allow.Paths = []string{"GET"}, []guard.PathPattern{p}
	r := newRelay(t, tunnel)
	open := func(edit func(*protocol.Open)) *protocol.Open {
		o := &protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "GET", Path: "/accounting/1"}
		edit(o)
		return o
	}
	const get = "GET /accounting/1 HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		open    *protocol.Open
		request string
		code    protocol.Code
	}{
		"path":             {open(func(o *protocol.Open) { o.Path = "/accounting-plus" }), "GET /accounting-plus HTTP/1.1\r\nHost: x\r\n\r\n", protocol.AgentDenied},
		"method":           {open(func(o *protocol.Open) { o.Method = "PUT" }), "PUT /accounting/1 HTTP/1.1\r\nHost: x\r\n\r\n", protocol.AgentDenied},
		"network":          {open(func(o *protocol.Open) { o.Network = protocol.TCP }), get, protocol.AgentDenied},
		"tunnel":           {open(func(o *protocol.Open) { o.Tunnel = "other" }), get, protocol.UnknownTunnel}, // S01
		"another path":     {open(func(*protocol.Open) {}), "GET /accounting/2 HTTP/1.1\r\nHost: x\r\n\r\n", protocol.BadRequest},
		"another method":   {open(func(*protocol.Open) {}), "HEAD /accounting/1 HTTP/1.1\r\nHost: x\r\n\r\n", protocol.BadRequest},
		"absolute form":    {open(func(*protocol.Open) {}), "GET http://10.0.0.1/accounting/1 HTTP/1.1\r\nHost: x\r\n\r\n", protocol.BadRequest}, // S06
		"connect":          {open(func(*protocol.Open) {}), "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n", protocol.MethodNotAllowed},       // S06
		"no HTTP":          {open(func(*protocol.Open) {}), "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", protocol.BadRequest},
		"CL and TE":        {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", protocol.BadRequest},
		"no host":          {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\n\r\n", protocol.BadRequest},
		"empty host":       {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost:\r\n\r\n", protocol.BadRequest},
		"bad host":         {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: a/b\r\n\r\n", protocol.BadRequest},
		"two hosts":        {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", protocol.BadRequest}, // W01
		"another version":  {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/2.0\r\nHost: x\r\n\r\n", protocol.BadRequest},
		"an expectation":   {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", protocol.BadRequest},
		"a bad value":      {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n", protocol.BadRequest}, // W01
		"a bad name":       {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nX Y: a\r\n\r\n", protocol.BadRequest},    // W01
		"another bad one":  {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nX: a\x7fb\r\n\r\n", protocol.BadRequest}, // W01
		"half a header":    {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost x\r\n\r\n", protocol.BadRequest},
		"h2c upgrade":      {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", protocol.UpgradeRefused}, // W05
		"bare h2c upgrade": {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", protocol.UpgradeRefused},                                                                                    // W05
		"h2c settings":     {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", protocol.UpgradeRefused},                                                                        // W05
		"huge header":      {open(func(*protocol.Open) {}), "GET /accounting/1 HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", protocol.HeadersTooLarge},
	} {
		t.Run(name, func(t *testing.T) { r.refused(r.open(c.open, c.request), c.code, false) })
	}
}

func TestARefusalDoesNotWaitForTheBody(t *testing.T) {
	r := newRelay(t, serveHTTP(t, func(http.ResponseWriter, *http.Request) { t.Error("the backend was called") }))
	for _, framing := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		open := &protocol.Open{Tunnel: "orders", Network: protocol.HTTP, Method: "POST", Path: "/a"}
		r.refused(r.open(open, "POST /b HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n"), protocol.BadRequest, false)
	}
}
