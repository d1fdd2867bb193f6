package quiclink_test

import (
	"io"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

func TestStatsComeFromLiveTraffic(t *testing.T) {
	client, server := sessions(t, nil, link.Config{}, link.Config{})
	before := client.(link.Measured).Stats()
	st, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	go func() {
		_, _ = st.Write(make([]byte, size)) // what does not arrive is missed below
		_ = st.CloseWrite()
	}()
	peer, err := server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, peer); n != size || err != nil {
		t.Fatalf("%d bytes arrived, %v", n, err)
	}
	after, far := client.(link.Measured).Stats(), server.(link.Measured).Stats()
	if after.SentBytes-before.SentBytes < size || far.ReceivedBytes < size || after.SentPackets < size/1452 {
		t.Errorf("1 MiB sent: near %+v, far %+v", after, far)
	}
	if after.RTT <= 0 || after.Congestion == "" {
		t.Errorf("got %+v, expected a round trip and a controller", after)
	}
}
