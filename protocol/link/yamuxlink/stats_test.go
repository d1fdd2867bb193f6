package yamuxlink_test

import (
	"io"
	"runtime"
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/linktest"
)

func TestStatsComeFromLiveTraffic(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not say")
	}
	client, server := sessions(t, linktest.NewNetwork(t, false, corked), link.Config{}, link.Config{})
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
	near, far := client.(link.Measured).Stats(), server.(link.Measured).Stats()
	if near.SentBytes < size || far.ReceivedBytes < size || near.SentPackets == 0 || near.RTT <= 0 || near.Congestion == "" {
		t.Errorf("1 MiB sent: near %+v, far %+v", near, far)
	}
}
