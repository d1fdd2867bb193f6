package link_test

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

func TestGoodputLeavesOutWhatWasSentAgain(t *testing.T) {
	var m link.Meter
	now := time.Now()
	m.Tick(link.Stats{SentBytes: 500, ReceivedBytes: 50, SentPackets: 5}, now)
	if g := m.Goodput(); g != (link.Goodput{}) {
		t.Errorf("one reading makes %+v, expected nothing", g)
	}
	m.Tick(link.Stats{SentBytes: 10_500, ReceivedBytes: 2050, SentPackets: 15, LostPackets: 2}, now.Add(10*time.Second))
	if g := m.Goodput(); g != (link.Goodput{Sent: 800, Received: 200}) {
		t.Errorf("%+v, expected 800 and 200 bytes a second: a fifth was lost", g)
	}
}

func TestMetersCountersNeverFall(t *testing.T) {
	var m link.Meter
	for i, r := range []struct{ reading, more uint64 }{{100, 100}, {90, 0}, {0, 0}, {120, 20}} {
		if more := m.Read(link.Stats{SentBytes: r.reading}); more.SentBytes != r.more {
			t.Errorf("reading %d adds %d, expected %d", i, more.SentBytes, r.more)
		}
	}
	m.Renew()
	m.Read(link.Stats{SentBytes: 30})
	if total := m.Total(); total.SentBytes != 150 {
		t.Errorf("%d in all, expected 120 of one connection and 30 of the next", total.SentBytes)
	}
}
