package quiclink_test

import (
	"context"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
	"github.com/fairlead/fairlead/protocol/link/quiclink"
)

// rawPeer returns a link's server end and the bare connection of its peer.
func rawPeer(t *testing.T) (*quic.Conn, link.Session) {
	t.Helper()
	serverConf, clientConf := linktest.TLSConfigs(t)
	addr, accept := listen(t, serverConf, quiclink.QUICConfig(link.Config{}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := quic.DialAddr(ctx, addr, clientConf, quiclink.QUICConfig(link.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	s := quiclink.Server(accept(ctx), link.Config{})
	t.Cleanup(func() { s.Close(nil) })
	return conn, s
}

// streamOf opens a stream on conn and returns both ends; one byte has crossed it.
func streamOf(t *testing.T, conn *quic.Conn, s link.Session) (*quic.Stream, link.Stream) {
	t.Helper()
	raw, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	st, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return raw, st
}

func wantReset(t *testing.T, what string, call func([]byte) (int, error), code uint16) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := call(make([]byte, 1<<20))
		done <- err
	}()
	select {
	case err := <-done:
		if reset, ok := err.(*link.ResetError); !ok || reset.Code != code || reset.Local {
			t.Errorf("%s: got %v, expected the peer's reset with code %d", what, err, code)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s: still waiting for the reset", what)
	}
}

func TestStopSendingAloneEndsBothDirections(t *testing.T) {
	conn, s := rawPeer(t)
	raw, st := streamOf(t, conn, s)
	raw.CancelRead(29)
	wantReset(t, "Read", st.Read, 29)
	wantReset(t, "Write", st.Write, 29)
}

func TestResetOfOneDirectionEndsBoth(t *testing.T) {
	conn, s := rawPeer(t)
	raw, st := streamOf(t, conn, s)
	raw.CancelWrite(29)
	wantReset(t, "Read", st.Read, 29)
	wantReset(t, "Write", st.Write, 29)
}

func TestCodeBeyondOursIsCanceled(t *testing.T) {
	conn, s := rawPeer(t)
	raw, st := streamOf(t, conn, s)
	raw.CancelWrite(1 << 20)
	wantReset(t, "Read", st.Read, link.CodeCanceled)
}

func TestPeerLearnsWhyTheLinkWasClosed(t *testing.T) {
	conn, s := rawPeer(t)
	s.Close(link.ErrPeerFlooded)
	<-conn.Context().Done()
	err, ok := context.Cause(conn.Context()).(*quic.ApplicationError)
	if !ok || !err.Remote || err.ErrorMessage != link.ErrPeerFlooded.Error() {
		t.Errorf("the peer got %v, expected the cause", context.Cause(conn.Context()))
	}
}
