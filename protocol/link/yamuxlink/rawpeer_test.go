package yamuxlink_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/yamuxlink"
)

const patience = time.Minute

// yamux's types and flags.
const (
	typeData   = 0
	typeUpdate = 1
	typePing   = 2

	flagSYN = 1
	flagFIN = 4
)

type frame struct {
	kind   byte
	flags  uint16
	stream uint32
	length uint32
	body   []byte
}

// rawPeer is a peer that keeps no rules: it says what it is told to.
type rawPeer struct {
	t    *testing.T
	conn net.Conn
}

// against returns a raw peer, as the client of a link's server end.
func against(t *testing.T, cfg link.Config) (*rawPeer, link.Session) {
	t.Helper()
	conn, other := tcpPair(t)
	s, err := yamuxlink.Server(other, cfg, link.Info{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(nil) })
	return &rawPeer{t, conn}, s
}

// under returns a raw peer, as the server of a link's client end.
func under(t *testing.T, cfg link.Config) (*rawPeer, link.Session) {
	t.Helper()
	conn, other := tcpPair(t)
	s, err := yamuxlink.Client(other, cfg, link.Info{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(nil) })
	return &rawPeer{t, conn}, s
}

func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err = new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{near, far} { // so that it takes little to fill them
		if err := errors.Join(c.(*net.TCPConn).SetReadBuffer(64<<10), c.(*net.TCPConn).SetWriteBuffer(64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

// send writes a frame. The session may have hung up already, which its own error tells.
func (p *rawPeer) send(kind byte, flags uint16, stream uint32, body []byte) {
	p.t.Helper()
	p.sendHeader(kind, flags, stream, uint32(len(body)))
	_, _ = p.conn.Write(body)
}

func (p *rawPeer) sendHeader(kind byte, flags uint16, stream, length uint32) {
	p.t.Helper()
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	_, _ = p.conn.Write(binary.BigEndian.AppendUint32(b, length))
}

// receive reads the next frame.
func (p *rawPeer) receive() frame {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	var b [12]byte
	if _, err := io.ReadFull(p.conn, b[:]); err != nil {
		p.t.Fatal(err)
	}
	f := frame{
		kind: b[1], flags: binary.BigEndian.Uint16(b[2:]), stream: binary.BigEndian.Uint32(b[4:]),
		length: binary.BigEndian.Uint32(b[8:]),
	}
	if f.kind == typeData {
		f.body = make([]byte, f.length)
		if _, err := io.ReadFull(p.conn, f.body); err != nil {
			p.t.Fatal(err)
		}
	}
	return f
}

// wantEnd waits for the session to end because of want.
func wantEnd(t *testing.T, s link.Session, want error) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatalf("the session lives on, expected its end: %v", want)
	}
	if err := s.Err(); !errors.Is(err, want) || !errors.Is(err, link.ErrLost) {
		t.Errorf("the session ended with %v, expected %v", err, want)
	}
}
