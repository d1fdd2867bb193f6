package front

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/protocol"
)

func TestOnePortServesAgentsAndCallersOfEveryKind(t *testing.T) {
	r := newRig(t, nil)
	for _, transport := range []string{"tcp", "quic"} {
		s, err := r.dialAgent(transport, r.agentConfig())
		if err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
		defer s.Close(nil)
		if err := echo(t, s); err != nil {
			t.Errorf("%s: %v", transport, err)
		}
	}
	for version, proto := range map[int]string{1: "HTTP/1.1", 2: "HTTP/2.0", 3: "HTTP/3.0"} {
		for _, id := range []string{"", callerID} {
			res, body, err := r.get(r.client(version, id), nil)
			if err != nil {
				t.Fatalf("%s: %v", proto, err)
			}
			if want := fmt.Sprintf("%s shown=%v source=127.0.0.1", proto, id != ""); body != want {
				t.Errorf("answer %q, expected %q", body, want)
			}
			want := fmt.Sprintf(`h3=":%d"; ma=86400`, r.Addr().Port())
			if got := res.Header.Get("Alt-Svc"); (got == want) != (version < 3) {
				t.Errorf("%s: Alt-Svc is %q", proto, got)
			}
		}
	}
}

func TestAnAgentThatIsNotProvedIsRefused(t *testing.T) { // H01, H02, H03
	r := newRig(t, nil)
	stranger := certstest.NewCA(t, "dc1.example") // the name alone
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
		"unknown authority": func(c *tls.Config) {
			cert := stranger.Issue(t, agentID)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		},
		"expired": func(c *tls.Config) {
			cert := r.dc.Issue(t, agentID, certstest.NotBefore(time.Now().Add(-2*time.Hour)), certstest.NotAfter(time.Now().Add(-time.Hour)))
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		},
	} {
		for _, transport := range []string{"tcp", "quic"} {
			cfg := r.agentConfig()
			change(cfg)
			s, err := r.dialAgent(transport, cfg)
			if err != nil {
				continue // QUIC may say so at once
			}
			if err := echo(t, s); err == nil {
				t.Errorf("%s over %s was served", name, transport)
			}
			s.Close(nil)
		}
	}
	r.eventually("the refusals over TCP are in the log", func() bool {
		return strings.Count(r.log.String(), `"level":"WARN","msg":"handshake refused"`) >= 3
	})
	r.eventually("no stranger is left", func() bool { return r.strangers.Unproved() == 0 })
}

func TestWhatIsNoTLSIsClosedAndOthersAreUnharmed(t *testing.T) { // H15
	r := newRig(t, func(c *Config) { c.HandshakeTimeout = time.Second })
	garbage := strings.Repeat("garbage!", 1<<17)
	for name, hello := range map[string]string{
		"plain HTTP": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "1 MiB of garbage": garbage, "SSLv2": "\x80\x2e\x01\x00\x02", "nothing": "", "half a hello": "\x16\x03\x01\x02\x00\x01",
	} {
		c, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(c, hello) }()
		began := time.Now()
		wantClosed(t, c, 5*time.Second)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: closed after %v", name, took)
		}
		c.Close()
	}
	for name, cfg := range map[string]*tls.Config{
		"TLS 1.2":     {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		"wrong ALPN":  {InsecureSkipVerify: true, NextProtos: []string{"smtp\r\n\x1b[31m"}},
		"enroll":      {InsecureSkipVerify: true, NextProtos: []string{protocol.ALPNEnroll}},
		"agents' 1.2": {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{protocol.ALPN}},
	} {
		if c, err := tls.Dial("tcp", r.Addr().String(), cfg); err == nil {
			t.Errorf("%s was taken", name)
			c.Close()
		}
	}
	if _, _, err := r.get(r.client(1, callerID), nil); err != nil {
		t.Error(err)
	}
	if strings.Contains(r.log.String(), "\x1b") {
		t.Error("the hello's control characters are in the log") // O06
	}
}

func TestAgentsGetInBesideSilentAndGarbageConnections(t *testing.T) { // H16
	r := newRig(t, func(c *Config) { c.HandshakeTimeout = 2 * time.Second })
	refused := 0
	for i := range 100 {
		// Other sources of the loopback network: one alone is held to its share.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%4))}}
		c, err := d.Dial("tcp", r.Addr().String())
		if err != nil {
			refused++
			continue
		}
		defer c.Close()
		if i%3 == 0 {
			_, _ = io.WriteString(c, "garbage that is no TLS at all")
		}
	}
	began := time.Now()
	for range 10 {
		s, err := r.dialAgent("tcp", r.agentConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(nil)
		if err := echo(t, s); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("10 agents took %v", took)
	}
	r.eventually("the silent ones are gone", func() bool { return r.strangers.Unproved() == 0 })
}

func TestOneSourceIsHeldToItsShareAndItsAgentsAreNot(t *testing.T) { // H16
	r := newRig(t, nil)
	var held []net.Conn
	for range 32 {
		c, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	r.eventually("32 strangers are counted", func() bool { return r.strangers.Unproved() == 32 })
	if c, err := net.Dial("tcp", r.Addr().String()); err == nil { // the cut may be quicker than the dial
		defer c.Close()
		wantClosed(t, c, time.Second)
	}
	for _, c := range held {
		c.Close()
	}
	r.eventually("their places are free again", func() bool { return r.strangers.Unproved() == 0 })
	for range 8 { // the rest of the bucket: each of those who hung up was charged
		s, err := r.dialAgent("tcp", r.agentConfig())
		if err != nil {
			t.Fatal(err)
		}
		if err := echo(t, s); err != nil {
			t.Fatal(err)
		}
		s.Close(nil)
	}
}

func TestACallerCountsAsAStrangerUntilItHasProvedItself(t *testing.T) {
	for _, version := range []int{1, 2, 3} {
		r := newRig(t, func(c *Config) { c.ProveTimeout = 2 * time.Second })
		c := r.client(version, callerID)
		if _, _, err := r.get(c, nil); err != nil {
			t.Fatal(err)
		}
		if n := r.strangers.Unproved(); n != 1 {
			t.Fatalf("HTTP/%d: %d strangers, expected 1", version, n)
		}
		if _, _, err := r.get(c, http.Header{"Prove": {"1"}}); err != nil {
			t.Fatal(err)
		}
		if n := r.strangers.Unproved(); n != 0 {
			t.Fatalf("HTTP/%d: %d strangers, expected 0", version, n)
		}
		other := r.client(version, "")
		if _, _, err := r.get(other, nil); err != nil {
			t.Fatal(err)
		}
		r.eventually("the unproved connection is closed", func() bool { return r.strangers.Unproved() == 0 })
		if _, _, err := r.get(c, nil); err != nil {
			t.Errorf("HTTP/%d: the proved one was closed too: %v", version, err)
		}
	}
}

func TestASlowHeaderIsCut(t *testing.T) { // W09
	r := newRig(t, func(c *Config) { c.HeaderReadTimeout = 300 * time.Millisecond })
	cfg := r.callerConfig(callerID)
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", r.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a")
	wantClosed(t, c, 5*time.Second)
}

func TestProxyHeadersAreBelievedFromTheirPrefixOnly(t *testing.T) {
	for _, believed := range []bool{true, false} {
		r := newRig(t, func(c *Config) {
			if believed {
				c.ProxyFrom = append(c.ProxyFrom, prefix("127.0.0.0/8"))
			}
		})
		dial := func(header []byte) (*tls.Conn, error) {
			raw, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { raw.Close() })
			_, _ = raw.Write(header)
			cfg := r.callerConfig(callerID)
			cfg.NextProtos = []string{"http/1.1"}
			c := tls.Client(raw, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			return c, c.HandshakeContext(ctx)
		}
		c, err := dial(proxyFor("198.51.100.7:4711"))
		if (err == nil) != believed {
			t.Fatalf("believed %v: %v", believed, err)
		}
		if !believed {
			continue
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		if !strings.Contains(string(b), "source=198.51.100.7") {
			t.Errorf("answer %q", b)
		}
		if c, err = dial(proxyHeader(0, 0, nil)); err != nil { // a health check of the proxy's own
			t.Fatal(err)
		}
		c.Close()
		if _, err := dial(nil); err == nil {
			t.Error("a connection of the proxy without its header was taken")
		}
	}
}

func TestLaneIsServedAsOneAndFreesItsSeat(t *testing.T) {
	r := newRig(t, nil)
	cfg := r.agentConfig()
	cfg.NextProtos = []string{protocol.ALPNLane}
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n := r.strangers.Unproved(); n != 1 {
		t.Errorf("%d strangers before its first bytes, expected 1", n)
	}
	if _, err := conn.Write([]byte("lane")); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if string(b) != "lane" {
		t.Errorf("read %q, %v", b, err)
	}
	if n := r.strangers.Unproved(); n != 0 {
		t.Errorf("%d strangers left, expected none", n)
	}
}

func TestLaneWithoutASVIDIsRefused(t *testing.T) {
	r := newRig(t, nil)
	cfg := r.agentConfig()
	cfg.NextProtos, cfg.GetClientCertificate, cfg.Certificates = []string{protocol.ALPNLane}, nil, nil
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", r.Addr().String())
	if err != nil {
		return
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes; expected a refused handshake", n)
	}
}
