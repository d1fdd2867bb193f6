package dispatch

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// serveTCP gives each connection to f, behind an address of the network.
func serveTCP(t *testing.T, network string, f func(net.Conn)) config.Tunnel {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return tunnelTo(t, network+"://"+l.Addr().String())
}

var tcpOpen = &protocol.Open{Tunnel: "orders", Network: protocol.TCP, CallID: "c1"}

func TestATCPCallKeepsItsHalfClose(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			// The backend answers once it has seen the end of what it was sent.
			r := newRelay(t, serveTCP(t, network, func(c net.Conn) {
				b, err := io.ReadAll(c)
				if err != nil {
					t.Error(err)
				}
				io.WriteString(c, strings.ToUpper(string(b)))
			}))
			s := r.open(tcpOpen, "hello")
			if opened, err := protocol.ReadOpened(s); err != nil || opened.Code != protocol.OK {
				t.Fatalf("got %v, %v", opened, err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(s); err != nil || string(b) != "HELLO" {
				t.Errorf("got %q, %v", b, err)
			}
			if rep := r.report(); rep.Code != protocol.OK || rep.In != 5 || rep.Out != 5 {
				t.Errorf("got report %+v", rep)
			}
		})
	}
}

func TestATCPBackendThatBreaksOffResetsTheStream(t *testing.T) {
	r := newRelay(t, serveTCP(t, "tcp", func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	}))
	s := r.open(tcpOpen, "x")
	if _, err := protocol.ReadOpened(s); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(s); err == nil {
		t.Error("got an end, want a reset")
	}
	if rep := r.report(); rep.Code != protocol.BackendProtocol || !rep.Sent {
		t.Errorf("got report %+v", rep)
	}
}

func TestATCPCallerWhoResetsBreaksTheBackendOff(t *testing.T) {
	seen := make(chan error, 1)
	r := newRelay(t, serveTCP(t, "tcp", func(c net.Conn) {
		_, err := io.ReadAll(c)
		seen <- err
	}))
	s := r.open(tcpOpen, "half")
	if _, err := protocol.ReadOpened(s); err != nil {
		t.Fatal(err)
	}
	s.Reset(link.CodeCanceled)
	if err := <-seen; err == nil {
		t.Error("the backend took a cut for an end")
	}
	if rep := r.report(); rep.Code != protocol.Canceled {
		t.Errorf("got report %+v", rep)
	}
}

func TestATCPBackendThatIsDownIsARefusal(t *testing.T) {
	r := newRelay(t, tunnelTo(t, "unix:///nonexistent/s"))
	r.refused(r.open(tcpOpen, ""), protocol.BackendUnreachable, false)
}

func TestProbesSayWhetherABackendAnswers(t *testing.T) {
	tunnel := serveTCP(t, "tcp", func(net.Conn) {})
	r := newRelay(t, tunnel)
	if err := r.d.Probe(t.Context(), "orders"); err != nil {
		t.Error(err)
	}
	if err := r.d.Probe(t.Context(), "other"); protocol.AsError(err).Code != protocol.UnknownTunnel {
		t.Errorf("got %v, want unknown_tunnel", err)
	}
}
