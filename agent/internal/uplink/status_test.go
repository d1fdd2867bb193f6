package uplink

import (
	"testing"

	"github.com/fairlead/fairlead/protocol/link"
)

func TestStatusSaysWhichTransportCallsTakeAndWhy(t *testing.T) {
	for _, c := range []struct {
		what            string
		tcp, lane, quic Status
		wTCP, wLane, wQ string
		uTCP, uLane, uQ bool
	}{
		{"free lanes", Status{Up: true}, Status{Up: true, Lanes: 3, Busy: 1}, Status{Up: true},
			"lanes are free", "a lane is free", "stands by while TCP lives", false, true, false},
		{"busy lanes", Status{Up: true}, Status{Up: true, Lanes: 3, Busy: 3}, Status{Up: true},
			"no lane is free", "every lane is busy", "stands by while TCP lives", true, false, false},
		{"no lanes", Status{Up: true}, Status{}, Status{Up: true},
			"no lane is free", "no link", "stands by while TCP lives", true, false, false},
		{"silent TCP", Status{Up: true, Suspect: true}, Status{Up: true, Lanes: 2}, Status{Up: true},
			"does not answer", "does not answer", "TCP does not answer", false, false, true},
		{"lanes alone", Status{}, Status{Up: true, Lanes: 2}, Status{Up: true},
			"no link", "a lane is free", "stands by while TCP lives", false, true, false},
		{"QUIC alone", Status{}, Status{}, Status{Up: true}, "no link", "no link", "TCP does not answer", false, false, true},
	} {
		c.tcp.Transport, c.lane.Transport, c.quic.Transport = "tcp", laneTransport, "quic"
		c.tcp.Address, c.lane.Address, c.quic.Address = "a", "a", "a"
		all := []Status{c.lane, c.quic, c.tcp, {Up: true, Address: "b", Transport: "quic"}}
		judge(all)
		for i, want := range []struct {
			why  string
			used bool
		}{{c.wLane, c.uLane}, {c.wQ, c.uQ}, {c.wTCP, c.uTCP}, {"TCP does not answer", true}} {
			if all[i].Used != want.used || all[i].Why != want.why {
				t.Errorf("%s: %s is used: %t, %q; expected %t, %q", c.what, all[i].Transport, all[i].Used, all[i].Why, want.used, want.why)
			}
		}
	}
}

// status returns what is said of the link over one transport.
func (u *Uplink) status(transport string) Status {
	for _, s := range u.Status() {
		if s.Transport == transport {
			return s
		}
	}
	return Status{}
}

func TestLinksAreMeasuredFromTheirTraffic(t *testing.T) {
	x := newTrust(t)
	r := startLaneRelay(t, x, "127.0.0.1:0")
	u, _ := start(t, x, func(c *Config) { c.Relays, c.Lanes = []string{r.addr}, 3 })
	eventually(t, "the floor stands", func() bool { return r.session.Free() == laneFloor })
	st := r.open(t)
	eventually(t, "lanes are counted", func() bool { s := u.status(laneTransport); return s.Lanes == 3 && s.Busy == 1 })
	const size = 1 << 20
	go func() { _, _ = st.Write(make([]byte, size)) }()
	for got := 0; got < size; {
		n, err := st.Read(make([]byte, 64<<10))
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	eventually(t, "goodput is measured", func() bool { s := u.status(laneTransport); return s.In >= size/10 && s.Out >= size/10 })
	s := u.status(laneTransport)
	if s.RTT <= 0 || s.Received < size || s.Sent < size || s.Packets == 0 || s.Loss > 1 || s.Congestion == "" || s.Total.SentBytes < size {
		t.Errorf("%+v; expected figures of a megabyte each way", s)
	}
}

func TestCountersOutliveTheLink(t *testing.T) {
	x := newTrust(t)
	r := startRelay(t, x, "127.0.0.1:0", "spiffe://cloud.example/relay/1")
	u, _ := start(t, x, func(c *Config) { c.Relays = []string{r.addr} })
	var before link.Stats
	for range 3 {
		s := receive(t, r.links, "link")
		eventually(t, "the counters go on from where they were", func() bool {
			now := u.status("tcp")
			return now.Up && now.Sent > 0 && now.Total.SentBytes >= before.SentBytes+now.Sent
		})
		before = u.status("tcp").Total
		s.Close(nil)
	}
}
