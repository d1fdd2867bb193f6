package yamuxlink_test

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

func TestPeerThatIgnoresItsWindowLosesTheLink(t *testing.T) {
	peer, s := against(t, link.Config{})
	peer.sendHeader(typeUpdate, flagSYN, 1, 0)
	for range 256<<10/(16<<10) + 1 {
		peer.send(typeData, 0, 1, link.AppendData(nil, make([]byte, 16<<10)))
	}
	wantEnd(t, s, link.ErrPeerFlooded)
}

func TestHugeFrameEndsTheLinkBeforeItIsAllocated(t *testing.T) {
	peer, s := against(t, link.Config{})
	peer.sendHeader(typeUpdate, flagSYN, 1, 0)
	peer.sendHeader(typeData, 0, 1, 16<<20) // and not one byte of it
	wantEnd(t, s, link.ErrPeerFlooded)
}

func TestFramesThatNoPeerOfOursSendsEndTheLink(t *testing.T) {
	for name, send := range map[string]func(*rawPeer){
		"a ping, each worth a goroutine": func(p *rawPeer) { p.sendHeader(typePing, flagSYN, 0, 1) },
		"another version":                func(p *rawPeer) { _, _ = p.conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"a stream in our numbers":        func(p *rawPeer) { p.sendHeader(typeUpdate, flagSYN, 2, 0) },
		"stream zero":                    func(p *rawPeer) { p.sendHeader(typeUpdate, flagSYN, 0, 0) },
		"an unknown type":                func(p *rawPeer) { p.sendHeader(7, 0, 1, 0) },
		"a malformed chunk": func(p *rawPeer) {
			p.send(typeData, flagSYN, 1, []byte{77, 0, 0, 0})
		},
		"half a chunk": func(p *rawPeer) {
			p.send(typeData, flagSYN, 1, []byte{1, 0, 0, 9, 'x'})
			p.sendHeader(typeUpdate, flagFIN, 1, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			peer, s := against(t, link.Config{})
			send(peer)
			wantEnd(t, s, link.ErrLost)
		})
	}
}

func TestPeerThatOpensStreamsWithoutEndLosesTheLink(t *testing.T) {
	peer, s := against(t, link.Config{MaxStreams: 10})
	go func() { _, _ = io.Copy(io.Discard, peer.conn) }() // takes the refusals, and finishes no stream
	for id := uint32(1); s.Err() == nil && id < 1<<20; {
		var syns []byte
		for range 64 {
			syns = append(syns, 0, typeUpdate, 0, flagSYN)
			syns = binary.BigEndian.AppendUint32(syns, id)
			syns = append(syns, 0, 0, 0, 0)
			id += 2
		}
		_, _ = peer.conn.Write(syns) // until the session hangs up
	}
	wantEnd(t, s, link.ErrPeerFlooded)
}

func TestStreamCutWithoutAnEndIsLostAlone(t *testing.T) {
	peer, s := against(t, link.Config{})
	peer.send(typeData, flagSYN, 1, link.AppendData(nil, []byte("half a mess")))
	st, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peer.sendHeader(typeUpdate, flagFIN, 1, 0) // yamux's end, without ours
	if _, err := io.ReadAll(st); !errors.Is(err, link.ErrLost) || errors.Is(err, io.EOF) {
		t.Errorf("got %v, expected one that wraps ErrLost", err)
	}
	peer.send(typeData, flagSYN, 3, link.AppendEnd(link.AppendData(nil, []byte("whole"))))
	st, err = s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(st); err != nil || string(got) != "whole" {
		t.Errorf("the next stream: read %q, %v", got, err)
	}
}

// A peer that never finishes the streams that we have reset must not cost us more with each call.
func TestStreamsThatThePeerNeverFinishesAreBounded(t *testing.T) {
	peer, s := under(t, link.Config{})
	go func() { _, _ = io.Copy(io.Discard, peer.conn) }()
	for range 20_000 {
		st, err := s.Open(t.Context())
		if errors.Is(err, link.ErrStreamLimit) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		st.Reset(96)
	}
	t.Error("20,000 streams were opened to a peer that finished none")
}
