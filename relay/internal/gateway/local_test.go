package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

func TestLocalHTTPActsAsTheTunnelsIdentity(t *testing.T) {
	r := newRig(t, nil)
	seen := make(chan http.Header, 4)
	r.backend(func(_ http.ResponseWriter, q *http.Request) { seen <- q.Header })
	socket := r.local("orders", protocol.HTTP)
	for _, h2 := range []bool{false, true} {
		p := new(http.Protocols)
		p.SetHTTP1(!h2)
		p.SetUnencryptedHTTP2(h2)
		tr := &http.Transport{Protocols: p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://whatever.example/x", nil)
		res, _ := do(t, &http.Client{Transport: tr}, req)
		tr.CloseIdleConnections()
		if res.StatusCode != 200 {
			t.Fatalf("h2 %v: status %d", h2, res.StatusCode)
		}
		h := <-seen
		if h.Get("Fairlead-Caller") != caller || h.Get("X-Forwarded-Proto") != "http" || !strings.HasPrefix(h.Get("Forwarded"), "for=unknown;") || h.Get("X-Forwarded-For") != "" {
			t.Errorf("h2 %v: the backend got %v", h2, h)
		}
	}
}

func TestLocalTCPCarriesRawBytes(t *testing.T) {
	r := newRig(t, nil)
	r.serve(routetest.TCP(tcpBackend(t, shout)))
	socket := r.local("ledger", protocol.TCP)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "raw")
	_ = c.(*net.UnixConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "RAW" {
		t.Fatalf("got %q, %v", b, err)
	}
	if rec := r.recorded(1)[0]; rec.Code != protocol.OK || rec.Tunnel != "ledger" {
		t.Errorf("record %+v", rec)
	}
}

func TestLocalTCPThatIsRefusedEnds(t *testing.T) {
	r := newRig(t, nil)
	socket := r.local("ledger", protocol.TCP)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("read %v", err)
	}
	if rec := r.recorded(1)[0]; rec.Code != protocol.NoAgent {
		t.Errorf("record %+v", rec)
	}
}

func TestLocalAddressCarriesRawBytes(t *testing.T) {
	r := newRig(t, nil)
	r.serve(routetest.TCP(tcpBackend(t, shout)))
	c, err := net.Dial("tcp", r.localAddress("ledger", protocol.TCP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "raw")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "RAW" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func TestABackendThatIsCutOffIsNoEndAtALocalAddress(t *testing.T) {
	r := newRig(t, nil)
	r.serve(routetest.TCP(tcpBackend(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
		_ = c.Close()
	})))
	c, err := net.Dial("tcp", r.localAddress("ledger", protocol.TCP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "x")
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %v; expected a reset", err)
	}
}

func TestLocalConnectionsThatEndGiveTheirPlacesBack(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b := &bounded{Listener: ln, room: make(chan struct{}, 1)}
	for range 3 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		_ = conn.Close() // the second gives no place back
		if len(b.room) != 0 {
			t.Fatalf("%d places are taken", len(b.room))
		}
	}
}

// localAddress serves a tunnel's loopback address until the test ends.
func (r *rig) localAddress(name protocol.TunnelName, network protocol.Network) string {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.localOn(name, network, ln)
	return ln.Addr().String()
}

// local serves a tunnel's unix socket until the test ends.
func (r *rig) local(name protocol.TunnelName, network protocol.Network) (path string) {
	r.t.Helper()
	path = r.t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.localOn(name, network, ln)
	return path
}

func (r *rig) localOn(name protocol.TunnelName, network protocol.Network, ln net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Local(name, network, mustID(caller)).Serve(ctx, ln) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	})
}
