package uplink

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// proxyServer accepts connections and gives each to serve, until the test ends.
func proxyServer(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer conn.Close(); serve(conn) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// join carries bytes between a and the address until either ends.
func join(a net.Conn, early io.Reader, address string) {
	b, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer b.Close()
	go func() { _, _ = io.Copy(b, early); b.Close() }()
	_, _ = io.Copy(a, b)
	a.Close()
}

func TestTheWayOutMayBeAnHTTPProxyWithAPassword(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	seen := make(chan string, 8)
	addr := proxyServer(t, func(conn net.Conn) {
		br := bufio.NewReader(conn)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}).BasicAuth()
		seen <- req.Method + " " + req.Host + " " + user + " " + password
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		join(conn, br, r.addr)
	})
	p := &Proxy{URL: &url.URL{Scheme: "http", Host: addr}, User: "agent", Password: func() (string, error) { return "secret", nil }}
	_, _ = start(t, x, func(c *Config) {
		c.Relays, c.Dial, c.ByName = []string{"relay.unresolvable.example:8443"}, p.Dial, true
	})
	if got := receive(t, seen, "CONNECT"); got != "CONNECT relay.unresolvable.example:8443 agent secret" {
		t.Errorf("the proxy saw %q; expected the name, which is its to resolve, and the credentials", got)
	}
	receive(t, r.links, "link through the proxy")
}

func TestAProxysRefusalIsAnErrorThatNamesItAndNoSecret(t *testing.T) {
	addr := proxyServer(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
		}
	})
	p := &Proxy{URL: &url.URL{Scheme: "http", Host: addr}, User: "agent", Password: func() (string, error) { return "secret", nil }}
	_, err := p.Dial(t.Context(), "relay.example:8443")
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "407") || !strings.Contains(err.Error(), "Negotiate") {
		t.Errorf("%v; expected the proxy, its status and what it wants", err)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Error("the password is in the error")
	}
}

func TestAProxyThatHangsIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	addr := proxyServer(t, func(net.Conn) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	time := make(chan error, 1)
	go func() {
		_, err := (&Proxy{URL: &url.URL{Scheme: "http", Host: addr}}).Dial(ctx, "relay.example:8443")
		time <- err
	}()
	cancel()
	if err := receive(t, time, "answer"); err == nil {
		t.Error("dialled through a proxy that says nothing")
	}
}

// A SOCKS5 server (RFC 1928, RFC 1929), as much of it as a CONNECT needs.
func TestTheWayOutMayBeASOCKSProxy(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	seen := make(chan string, 8)
	addr := proxyServer(t, func(conn net.Conn) {
		br := bufio.NewReader(conn)
		field := func() string {
			n, err := br.ReadByte()
			if err != nil {
				return ""
			}
			b := make([]byte, n)
			_, _ = io.ReadFull(br, b)
			return string(b)
		}
		_, _ = br.ReadByte() // version
		_ = field()          // methods
		_, _ = conn.Write([]byte{5, 2})
		_, _ = br.ReadByte()
		user, password := field(), field()
		_, _ = conn.Write([]byte{1, 0})
		head := make([]byte, 4)
		_, _ = io.ReadFull(br, head)
		host := field()
		port := make([]byte, 2)
		_, _ = io.ReadFull(br, port)
		if binary.BigEndian.Uint16(port) == 8443 {
			seen <- host + " " + user + " " + password
		}
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		join(conn, br, r.addr)
	})
	p := &Proxy{URL: &url.URL{Scheme: "socks5", Host: addr}, User: "agent", Password: func() (string, error) { return "secret", nil }}
	_, _ = start(t, x, func(c *Config) {
		c.Relays, c.Dial, c.ByName = []string{"relay.unresolvable.example:8443"}, p.Dial, true
	})
	if got := receive(t, seen, "SOCKS request"); got != "relay.unresolvable.example agent secret" {
		t.Errorf("the proxy saw %q", got)
	}
	receive(t, r.links, "link through the proxy")
}

func TestTheEnvironmentsProxyIsUsed(t *testing.T) {
	relays := []string{"relay-a.example:8443", "relay-b.example:8443"}
	for name, c := range map[string]struct {
		https, no string
		want      string // host of the proxy; empty: a direct way; "error": refused
	}{
		"none":           {"", "", ""},
		"proxy":          {"http://user:hunter2@proxy.example:3128", "", "proxy.example:3128"},
		"socks":          {"socks5://proxy.example:1080", "", "proxy.example:1080"},
		"excepted":       {"http://proxy.example:3128", ".example", ""},
		"one of two":     {"http://proxy.example:3128", "relay-a.example", "error"},
		"unknown scheme": {"ftp://user:hunter2@proxy.example", "", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", c.https)
			t.Setenv("NO_PROXY", c.no)
			p, err := FromEnvironment(relays)
			switch {
			case err != nil:
				if c.want != "error" || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%v", err)
				}
			case p == nil:
				if c.want != "" {
					t.Errorf("a direct way; expected %s", c.want)
				}
			case p.URL.Host != c.want:
				t.Errorf("%s; expected %q", p.URL.Host, c.want)
			}
		})
	}
}
