package front

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/protocol/link"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestRetryIsAskedForOnceManyAddressesMayBeForged(t *testing.T) { // H18
	r := newRig(t, func(c *Config) { c.QUICUnvalidated = 4 })
	agent, err := r.dialAgent("quic", r.agentConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close(nil)
	if r.retried() {
		t.Error("Retry was sent without need")
	}
	for range 20 { // Initials whose handshake never goes on
		r.halfOpen()
	}
	r.eventually("four addresses are held unvalidated", func() bool { return r.unvalidated.count() == 4 })
	if !r.retried() {
		t.Error("no Retry was sent")
	}
	if n := r.unvalidated.count(); n > 4 {
		t.Errorf("%d unvalidated addresses, expected at most 4", n)
	}
	if err := echo(t, agent); err != nil {
		t.Errorf("a link that was there before suffered: %v", err)
	}
}

// tapped is a client's socket that hears nothing, or notes a Retry.
type tapped struct {
	net.PacketConn
	deaf  bool
	retry atomic.Bool
}

func (c *tapped) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := c.PacketConn.ReadFrom(b)
		if err == nil && n > 0 && b[0]&0xF0 == 0xF0 { // RFC 9000 §17.2.5
			c.retry.Store(true)
		}
		if err != nil || !c.deaf {
			return n, addr, err
		}
	}
}

func (r *rig) dialTapped(c *tapped, timeout time.Duration) error {
	r.t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		r.t.Fatal(err)
	}
	c.PacketConn = udp
	tr := &quic.Transport{Conn: c}
	ctx, cancel := context.WithTimeout(r.t.Context(), timeout)
	defer cancel()
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}
	conn, err := tr.Dial(ctx, net.UDPAddrFromAddrPort(r.Addr()), cfg, &quic.Config{})
	if err == nil {
		_ = conn.CloseWithError(0, "")
	}
	_ = tr.Close()
	_ = udp.Close()
	return err
}

// halfOpen sends a QUIC client's first packets, and then is silent.
func (r *rig) halfOpen() {
	r.t.Helper()
	if r.dialTapped(&tapped{deaf: true}, 30*time.Millisecond) == nil {
		r.t.Fatal("the handshake of a deaf client succeeded")
	}
}

// retried connects as a caller, and reports whether it took a Retry.
func (r *rig) retried() bool {
	r.t.Helper()
	c := new(tapped)
	if err := r.dialTapped(c, 5*time.Second); err != nil {
		r.t.Fatal(err)
	}
	return c.retry.Load()
}

func TestNoSessionIsResumedAndNo0RTTIsTaken(t *testing.T) { // H08, H09
	r := newRig(t, nil)
	cfg := r.callerConfig(callerID)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	cfg.NextProtos = []string{"h3"}
	for range 2 {
		c, err := quic.DialAddrEarly(t.Context(), r.Addr().String(), cfg, &quic.Config{})
		if err != nil {
			t.Fatal(err)
		}
		<-c.HandshakeComplete()
		if s := c.ConnectionState(); s.Used0RTT || s.TLS.DidResume {
			t.Errorf("0-RTT %v, resumed %v", s.Used0RTT, s.TLS.DidResume)
		}
		time.Sleep(50 * time.Millisecond) // a ticket, if any, would arrive
		_ = c.CloseWithError(0, "")
	}
	cfg = r.agentConfig()
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for range 2 {
		c, err := tls.Dial("tcp", r.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if c.ConnectionState().DidResume {
			t.Error("an agent's session was resumed")
		}
		c.Close()
	}
}

func TestAnAgentThatNeverSaysHelloIsCut(t *testing.T) {
	for _, transport := range []string{"tcp", "quic"} {
		r := newRig(t, func(c *Config) {
			c.ProveTimeout = 200 * time.Millisecond
			c.Agent = func(ctx context.Context, s link.Session, _ func()) {
				select {
				case <-ctx.Done():
				case <-s.Done():
				}
			}
		})
		s, err := r.dialAgent(transport, r.agentConfig())
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Done():
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the link still lives", transport)
		}
		s.Close(nil)
	}
}

func TestConnectOverHTTP3HalfClosesBothWays(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Caller = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			d, err := w.(interface {
				TakeStream() (link.Duplex, error)
			}).TakeStream()
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			_, _ = io.WriteString(d, "hello ")
			b, err := io.ReadAll(d) // the caller's end
			if err != nil {
				t.Error(err)
			}
			_, _ = d.Write(b)
			_ = d.CloseWrite()
		})
	})
	in, out := io.Pipe()
	req := &http.Request{Method: "CONNECT", URL: &url.URL{Scheme: "https", Host: r.Addr().String()}, Host: r.Addr().String(), Body: in, Header: http.Header{}}
	res, err := r.client(3, callerID).Transport.(*http3.Transport).RoundTrip(req.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	hello := make([]byte, 6)
	if _, err := io.ReadFull(res.Body, hello); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(out, "world")
	_ = out.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || string(hello)+string(b) != "hello world" {
		t.Fatalf("got %q, %v", string(hello)+string(b), err)
	}
}

func TestTheStatelessResetKeyIsUsed(t *testing.T) {
	key := [32]byte{1, 2, 3}
	r := newRig(t, func(c *Config) { c.StatelessResetKey = key })
	if r.transport.StatelessResetKey == nil || *r.transport.StatelessResetKey != quic.StatelessResetKey(key) {
		t.Fatal("the key did not reach the transport")
	}
}
