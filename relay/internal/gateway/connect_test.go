package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// tcpBackend serves each connection with h.
func tcpBackend(t *testing.T, h func(*net.TCPConn)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				h(c.(*net.TCPConn))
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// shout answers after the caller's end alone: half-close is what it tests.
func shout(c *net.TCPConn) {
	b, err := io.ReadAll(c)
	if err == nil {
		_, _ = io.WriteString(c, strings.ToUpper(string(b)))
	}
}

// connect sends a CONNECT over HTTP/1.1, with early bytes right behind it.
func (r *rig) connect(target, early, header string) (*tls.Conn, *bufio.Reader, *http.Response) {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), r.tlsConfig(caller))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s", target, target, header, early); err != nil {
		r.t.Fatal(err)
	}
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil {
		r.t.Fatal(err)
	}
	return conn, br, res
}

func TestConnectOverHTTP1CarriesEarlyBytesAndHalfClosesBothWays(t *testing.T) {
	r := newRig(t, nil)
	r.serve(routetest.TCP(tcpBackend(t, shout)))
	conn, br, res := r.connect("ledger.dc1.example:5432", "early ", "")
	if res.StatusCode != 200 || res.Header.Get("Fairlead-Call-Id") == "" {
		t.Fatalf("answer %+v", res)
	}
	_, _ = io.WriteString(conn, "bird")
	_ = conn.CloseWrite()
	if b, err := io.ReadAll(br); err != nil || string(b) != "EARLY BIRD" {
		t.Fatalf("got %q, %v", b, err)
	}
	if rec := r.recorded(1)[0]; rec.Code != protocol.OK || rec.Network != protocol.TCP || rec.Tunnel != "ledger" {
		t.Errorf("record %+v", rec)
	}
}

func TestABackendsEndLeavesTheCallersDirectionOpen(t *testing.T) {
	r := newRig(t, nil)
	got := make(chan string, 1)
	r.serve(routetest.TCP(tcpBackend(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	})))
	conn, br, _ := r.connect("ledger.dc1.example:1", "", "")
	if _, err := br.ReadByte(); err != io.EOF {
		t.Fatalf("read %v, expected the backend's end", err)
	}
	_, _ = io.WriteString(conn, "still here")
	_ = conn.CloseWrite()
	if s := <-got; s != "still here" {
		t.Fatalf("the backend got %q", s)
	}
}

func TestConnectOverHTTP2CarriesBytesAndTheCallersEnd(t *testing.T) {
	r := newRig(t, nil)
	r.serve(routetest.TCP(tcpBackend(t, shout)))
	in, out := io.Pipe()
	res, err := r.client(caller, true).Do(r.connectH2(t.Context(), in))
	if err != nil || res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	defer res.Body.Close()
	_, _ = io.WriteString(out, "early bird")
	_ = out.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "EARLY BIRD" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func (r *rig) connectH2(ctx context.Context, body io.Reader) *http.Request {
	req := r.request("CONNECT", "ledger", "", body).WithContext(ctx)
	u, _ := url.Parse(r.server.URL)
	req.URL, req.Host = &url.URL{Scheme: "https", Host: u.Host}, "ledger.dc1.example:5432"
	return req
}

func TestABackendsEndEndsAnHTTP2Connect(t *testing.T) {
	r := newRig(t, nil)
	r.serve(routetest.TCP(tcpBackend(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "bye") })))
	in, out := io.Pipe()
	defer out.Close()
	res, err := r.client(caller, true).Do(r.connectH2(t.Context(), in))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "bye" {
		t.Fatalf("got %q, %v", b, err)
	}
	r.recorded(1)
}

func TestACutConnectIsNeverTakenForAnEnd(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		r.serve(func(_ context.Context, _ *protocol.Open, s link.Stream) {
			if routetest.Accept(s) == nil {
				_, _ = io.WriteString(s, "half of")
				_, _ = s.Read(make([]byte, 1))
				s.Reset(uint16(protocol.BackendProtocol))
			}
		})
		var body io.Reader
		var out io.Writer
		if h2 {
			in, w := io.Pipe()
			defer w.Close()
			res, err := r.client(caller, true).Do(r.connectH2(t.Context(), in))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, out = res.Body, w
		} else {
			conn, br, _ := r.connect("ledger.dc1.example:1", "", "")
			body, out = br, conn
		}
		if _, err := io.ReadFull(body, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(out, "x")
		if _, err := io.ReadAll(body); err == nil {
			t.Errorf("h2 %v: the cut looks like an end", h2)
		}
		if rec := r.recorded(1)[0]; rec.Code != protocol.Canceled {
			t.Errorf("h2 %v: record %+v", h2, rec)
		}
	}
}

func TestACallerThatGoesAwayCutsTheBackendsConnection(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		gone := make(chan error, 1)
		r.serve(routetest.TCP(tcpBackend(t, func(c *net.TCPConn) {
			_, err := io.Copy(io.Discard, c)
			gone <- err
		})))
		if h2 {
			ctx, cancel := context.WithCancel(t.Context())
			in, w := io.Pipe()
			res, err := r.client(caller, true).Do(r.connectH2(ctx, in))
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			res.Body.Close()
			w.Close()
		} else {
			conn, _, _ := r.connect("ledger.dc1.example:1", "", "")
			_ = conn.NetConn().(*net.TCPConn).SetLinger(0)
			_ = conn.NetConn().Close()
		}
		if err := <-gone; err == nil {
			t.Errorf("h2 %v: the backend took the cut for an end", h2)
		}
	}
}

func TestAnHTTPTunnelTakesNoConnect(t *testing.T) { // S06
	r := newRig(t, nil)
	r.backend(func(http.ResponseWriter, *http.Request) { t.Error("the backend was called") })
	for _, c := range []struct {
		target string
		status int
		code   protocol.Code
	}{
		{"orders.dc1.example:443", 405, protocol.MethodNotAllowed},
		{"169.254.169.254:80", 404, protocol.UnknownTunnel},
		{"secured.dc1.example:443", 405, protocol.MethodNotAllowed},
	} {
		_, br, res := r.connect(c.target, "", "")
		body := make([]byte, res.ContentLength)
		if _, err := io.ReadFull(br, body); err != nil {
			t.Fatal(err)
		}
		r.wantProblem(res, string(body), c.status, c.code)
	}
}

func TestAProxyAsksForATokenInItsOwnWords(t *testing.T) {
	r := newRig(t, func(name string, t *tunnel.Tunnel) {
		if name == "ledger" {
			t.Authenticate = tunnel.WantToken(&tunnel.TokenRule{Issuer: issuerURL})
		}
	})
	r.serve(routetest.TCP(tcpBackend(t, shout)))
	_, _, res := r.connect("ledger.dc1.example:1", "", "")
	if res.StatusCode != 407 || res.Header.Get("Proxy-Authenticate") != `Bearer realm="fairlead"` || res.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("status %d, header %v", res.StatusCode, res.Header)
	}
	for _, name := range []string{"Proxy-Authorization", "Authorization"} {
		if _, _, res = r.connect("ledger.dc1.example:1", "", name+": Bearer "+goodToken+"\r\n"); res.StatusCode != 200 {
			t.Errorf("%s: status %d", name, res.StatusCode)
		}
	}
}
