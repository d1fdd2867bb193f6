package memlink_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
)

func TestVanishedPeerIsHeardAgainAfterRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := memlink.Pair(link.Config{}, link.Config{})
		st, err := client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := server.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		client.Vanish()
		if _, err := st.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		before := server.Received()
		_ = peer.SetReadDeadline(time.Now().Add(time.Hour))
		if n, err := peer.Read(make([]byte, 8)); n != 0 || err == nil {
			t.Fatalf("read %d bytes, %v over a link that is silent", n, err)
		}
		if got := server.Received(); got != before {
			t.Errorf("received %d bytes over a link that is silent", got-before)
		}
		client.Restore()
		_ = peer.SetReadDeadline(time.Time{})
		b := make([]byte, 4)
		if _, err := io.ReadFull(peer, b); err != nil || string(b) != "late" {
			t.Fatalf("read %q, %v after Restore", b, err)
		}
	})
}

func TestClosedWhileSilentIsLearnedAfterRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := memlink.Pair(link.Config{}, link.Config{})
		client.Vanish()
		client.Close(nil)
		time.Sleep(time.Hour)
		if err := server.Err(); err != nil {
			t.Fatalf("the server learned of the end over a link that is silent: %v", err)
		}
		client.Restore()
		<-server.Done()
		if err := server.Err(); !errors.Is(err, link.ErrLost) {
			t.Fatalf("got %v, expected one that wraps ErrLost", err)
		}
	})
}
