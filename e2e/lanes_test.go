//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// A linkStatus is what both halves' status says of a link.
type linkStatus struct {
	Agent      string `json:"agent"` // these two by the relay alone
	Name       string `json:"name"`
	Transport  string `json:"transport"`
	RTT        int64  `json:"rtt"`
	Calls      int    `json:"calls"`
	Lanes      int    `json:"lanes"`
	Busy       int    `json:"busy_lanes"`
	Used       bool   `json:"used"`
	Why        string `json:"why"`
	Sent       int    `json:"sent_bytes"`
	Out        int    `json:"sent_per_second"`
	In         int    `json:"received_per_second"`
	Congestion string `json:"congestion"`
}

type halfStatus struct {
	Links   []linkStatus `json:"links"`
	Tunnels []struct {   // the relay's alone are read
		Name       string
		Agents, Up int
	} `json:"-"`
	UDP *struct{ Wanted, Receive, Send, Short int } `json:"udp_buffers"`
}

func (p *program) status(t *testing.T) (s halfStatus) {
	t.Helper()
	text := []byte(p.command(t, "status", "-c", p.config, "--json"))
	err := json.Unmarshal(text, &s)
	if p.half == "relay" && err == nil {
		err = json.Unmarshal(text, &struct{ Tunnels any }{&s.Tunnels})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// link returns the first link of a transport, the zero value where there is none.
func (s halfStatus) link(transport string) linkStatus {
	for _, l := range s.Links {
		if l.Transport == transport {
			return l
		}
	}
	return linkStatus{}
}

// await waits until the program's status is as wanted, and returns it.
func (p *program) await(t *testing.T, what string, ok func(halfStatus) bool) (s halfStatus) {
	t.Helper()
	within(t, 30*time.Second, what, func(context.Context) error {
		if s = p.status(t); ok(s) {
			return nil
		}
		return fmt.Errorf("status is %+v", s)
	})
	return s
}

// doored returns a tcp tunnel with a socket beside the relay where each connection is a call.
func doored(name, backend string) tunnel {
	return tunnel{name: name, protocol: "tcp", backend: "tcp://" + backend, token: "none",
		relay: "listen: {socket: " + name + ".sock, as: " + billingID + "}"}
}

// dial begins a call at a tunnel's socket.
func (s *site) dial(t *testing.T, door string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", s.file(door+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echoed carries bytes over a call to an echo and back.
func echoed(conn net.Conn, size int) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	go func() { _, _ = conn.Write(make([]byte, size)) }()
	_, err := io.ReadFull(conn, make([]byte, size))
	return err
}

// call begins a call to an echo that works, and leaves it open.
func (s *site) call(t *testing.T, door string) net.Conn {
	t.Helper()
	conn := s.dial(t, door)
	if err := echoed(conn, 5); err != nil {
		t.Fatalf("a call at %s: %v", door, err)
	}
	return conn
}

func TestCallsTakeLanes(t *testing.T) {
	orders := ordersTunnel(servers.StartOrders(t, new(servers.Loopback)))
	s := startSite(t, options{}, orders, doored("ledger", startEcho(t)))
	s.relay.await(t, "free lanes, and every transport", func(h halfStatus) bool {
		return h.link("lane").Lanes >= 2 && h.link("tcp").Transport != "" && h.link("quic").Transport != ""
	})
	before := s.relay.status(t)
	c := s.caller(t, nil, billingID, h1)
	for range 5 {
		c.must(t, http.StatusOK, call{tunnel: "orders", path: "/v1/orders"})
	}
	const size = 2 << 20
	if err := echoed(s.call(t, "ledger"), size); err != nil {
		t.Fatal(err)
	}
	after := s.relay.await(t, "goodput", func(h halfStatus) bool { l := h.link("lane"); return l.Out > size/20 && l.In > size/20 })
	for _, transport := range []string{"lane", "tcp", "quic"} {
		was, is := before.link(transport), after.link(transport)
		if carried := is.Sent-was.Sent > size; carried != (transport == "lane") || is.Used != (transport == "lane") {
			t.Errorf("%s: %d bytes sent, used %t (%s); expected calls on lanes alone", transport, is.Sent-was.Sent, is.Used, is.Why)
		}
		if is.Why == "" || is.RTT <= 0 || is.Congestion == "" {
			t.Errorf("%s: not measured: %+v", transport, is)
		}
	}
	if l := s.agent.status(t).link("lane"); !l.Used || l.Lanes < 2 {
		t.Errorf("the agent says %+v of its lanes", l)
	}
	for _, tun := range after.Tunnels { // three links are one agent
		if tun.Agents != 1 || tun.Up != 1 {
			t.Errorf("%s is served by %d agents, %d of them up; expected one", tun.Name, tun.Agents, tun.Up)
		}
	}
	if b := after.UDP; b == nil || b.Wanted == 0 || b.Receive == 0 || b.Send == 0 || b.Short != max(0, b.Wanted-min(b.Receive, b.Send)) {
		t.Errorf("UDP buffers are %+v", b)
	}
}

func TestMetricsTellOfLinks(t *testing.T) {
	s := startSite(t, options{}, doored("ledger", startEcho(t)))
	s.relay.await(t, "every transport", func(h halfStatus) bool { return len(h.Links) == 3 && h.link("lane").Lanes >= 2 })
	s.call(t, "ledger")
	to := fmt.Sprintf(`address="%s",relay="%s"`, s.address, s.address)
	for p, lines := range map[*program][]string{
		s.relay: {
			`fairlead_relay_links{transport="lane"} 1`, `fairlead_relay_links{transport="tcp"} 1`, `fairlead_relay_links{transport="quic"} 1`,
			"fairlead_relay_lanes ", "fairlead_relay_lanes_busy 1", `fairlead_relay_tunnel_agents{tunnel="ledger"} 1`,
			`fairlead_relay_link_rtt_min_seconds{transport="lane"}`, `fairlead_relay_link_rtt_max_seconds{transport="lane"}`,
			`fairlead_relay_link_packets_sent_total{transport="lane"}`, `fairlead_relay_link_packets_lost_total{transport="tcp"}`,
			`fairlead_relay_link_bytes_total{direction="in",transport="quic"}`, `fairlead_relay_link_bytes_total{direction="out",transport="lane"}`,
			`fairlead_relay_link_goodput_bytes_per_second{direction="out",transport="lane"}`, "fairlead_relay_udp_buffer_missing_bytes",
		},
		s.agent: {
			`fairlead_agent_links{transport="lane"} 1`, `fairlead_agent_links{transport="tcp"} 1`, `fairlead_agent_links{transport="quic"} 1`,
			"fairlead_agent_lanes{" + to + "} ", "fairlead_agent_lanes_busy{" + to + "} 1",
			"fairlead_agent_link_rtt_seconds{" + to + `,transport="lane"}`, "fairlead_agent_link_packets_sent_total{" + to + `,transport="tcp"}`,
			"fairlead_agent_link_packets_lost_total{" + to + `,transport="quic"}`,
			`fairlead_agent_link_bytes_total{address="` + s.address.String() + `",direction="in",`,
			`fairlead_agent_link_goodput_bytes_per_second{address="` + s.address.String() + `",direction="out",`, "fairlead_agent_udp_buffer_missing_bytes",
		},
	} {
		text, err := p.get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line) {
				t.Errorf("%s: no metric %s", p.name, line)
			}
		}
	}
}

func TestLanesGrowWithTheCallsUpToTheirLimitAndTheOthersShareALink(t *testing.T) {
	for _, limit := range []int{64, 4, 0} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			s := startSite(t, options{agent: fmt.Sprintf("limits: {lanes: %d}\ntransport: tcp", limit)}, doored("ledger", startEcho(t)))
			s.relay.await(t, "links", func(h halfStatus) bool { return h.link("tcp").Transport != "" && h.link("lane").Lanes >= min(limit, 2) })
			const calls = 16
			var running sync.WaitGroup
			conns := make([]net.Conn, calls)
			for i := range conns {
				conns[i] = s.dial(t, "ledger")
				running.Go(func() {
					if err := echoed(conns[i], 64<<10); err != nil {
						t.Errorf("call %d: %v", i, err)
					}
				})
			}
			running.Wait()
			h := s.relay.await(t, "the lanes that are wanted", func(h halfStatus) bool {
				l := h.link("lane")
				return l.Lanes >= min(limit, calls-h.link("tcp").Calls+2)
			})
			lane, tcp := h.link("lane"), h.link("tcp")
			if lane.Lanes > limit || lane.Busy != lane.Calls || lane.Calls+tcp.Calls != calls {
				t.Errorf("%d calls on %d lanes, %d on the shared link; expected at most %d lanes and %d calls", lane.Calls, lane.Lanes, tcp.Calls, limit, calls)
			}
			more := []net.Conn{}
			for range 4 {
				more = append(more, s.call(t, "ledger"))
			}
			for i, conn := range append(conns, more...) {
				if err := echoed(conn, 10); err != nil {
					t.Errorf("call %d, later: %v", i, err)
				}
			}
			h = s.relay.status(t)
			lane, tcp = h.link("lane"), h.link("tcp")
			if full := limit < calls; tcp.Used != full || lane.Used == full || full && (lane.Calls > limit || tcp.Calls < calls+4-limit) {
				t.Errorf("lane %+v, tcp %+v", lane, tcp)
			}
		})
	}
}

// otherRelay returns a second relay like the site's, under its own name and identity and with doors of its own.
func (s *site) otherRelay(t *testing.T, name string) *site {
	t.Helper()
	other := *s
	other.address = servers.FreePort(t, s.relay.on)
	s.write(t, name, s.cloud.Issue(t, "spiffe://cloud.example/relay/"+name))
	text, err := os.ReadFile(s.relay.config)
	if err != nil {
		t.Fatal(err)
	}
	config, _, _ := strings.Cut(string(text), "ops: ")
	config = strings.NewReplacer(s.address.String(), other.address.String(), "cert: relay.crt", "cert: "+name+".crt", "key: relay.key",
		"key: "+name+".key", ".sock", "-"+name+".sock").Replace(config)
	other.relay = newProgramOf(t, "relay", s.identities, s.relay.on, name, config)
	return &other
}

// startBalancer forwards TCP connections to one address after the other.
func startBalancer(t *testing.T, to ...string) (addr string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ; i++ {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer near.Close()
				far, err := new(net.Dialer).DialContext(context.Background(), "tcp", to[i%len(to)])
				if err != nil {
					return
				}
				running.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
				_, _ = io.Copy(near, far)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); running.Wait() })
	return ln.Addr().String()
}

func TestBothRelaysBehindALoadBalancerServeByLanes(t *testing.T) {
	a := newSite(t, options{agent: "transport: tcp"}, doored("ledger", startEcho(t)))
	b := a.otherRelay(t, "relay-b")
	a.agent.edit(t, a.address.String(), startBalancer(t, a.address.String(), b.address.String()))
	for _, p := range []*program{a.relay, b.relay} {
		p.start(t)
		p.ready(t)
	}
	a.agent.start(t)
	a.agent.ready(t)
	shared := 0
	for _, p := range []*program{a.relay, b.relay} {
		h := p.await(t, "free lanes", func(h halfStatus) bool { l := h.link("lane"); return l.Lanes-l.Busy >= 2 })
		if h.link("tcp").Transport != "" {
			shared++
		}
	}
	if shared != 1 {
		t.Fatalf("%d relays have the agent's shared link: this test sees nothing", shared)
	}
	for s, door := range map[*site]string{a: "ledger", b: "ledger-relay-b"} {
		for range 10 {
			if err := s.call(t, door).Close(); err != nil {
				t.Fatal(err)
			}
		}
		var running sync.WaitGroup
		for range 12 { // all at once, and more than there are lanes
			conn := s.dial(t, door)
			running.Go(func() {
				if err := echoed(conn, 64<<10); err != nil {
					t.Errorf("a call at %s: %v", s.relay.name, err)
				}
			})
		}
		running.Wait()
	}
}

// startSink is a backend that takes connections and reads nothing. Each of them is told to taken.
func startSink(t *testing.T) (addr string, taken <-chan *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan *net.TCPConn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			out <- conn
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String(), out
}

// freed is what within waits for: that a connection of the sink's has ended, which is seen without reading it.
func freed(conn *net.TCPConn) func(context.Context) error {
	return func(context.Context) error {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		ended := false
		err = raw.Control(func(fd uintptr) {
			polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			n, _ := unix.Poll(polled, 0)
			ended = n > 0
		})
		if err == nil && !ended {
			err = errNotYet
		}
		return err
	}
}

// stuff writes until nothing more is taken for a second, and returns how much was.
func stuff(t *testing.T, conn net.Conn) (n int) {
	t.Helper()
	block := make([]byte, 256<<10)
	for {
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		k, err := conn.Write(block)
		if n += k; errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackendThatReadsNothingStallsItsOwnCallAlone(t *testing.T) {
	for name, agent := range map[string]string{"lanes": "", "yamux": "limits: {lanes: 0}\ntransport: tcp"} {
		t.Run(name, func(t *testing.T) {
			sink, taken := startSink(t)
			s := startSite(t, options{agent: agent}, doored("slow", sink), doored("ledger", startEcho(t)))
			for range 3 {
				stuff(t, s.dial(t, "slow"))
				<-taken
			}
			for range 30 {
				if err := echoed(s.call(t, "ledger"), 256<<10); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A caller over HTTP/2 or HTTP/3 says that it gives up. Over HTTP/1 it would say so behind what it has sent.
func TestAbortedBulkCallFreesABackendThatReadsNothing(t *testing.T) {
	for name, agent := range map[string]string{"lanes": "transport: tcp", "yamux": "limits: {lanes: 0}\ntransport: tcp", "quic": "transport: quic"} {
		t.Run(name, func(t *testing.T) {
			sink, taken := startSink(t)
			s := startSite(t, options{agent: agent}, tunnel{name: "files", backend: "http://" + sink, token: "none"})
			c := s.caller(t, nil, billingID, h2)
			ctx, abort := context.WithCancel(t.Context())
			request := c.request(ctx, t, call{method: http.MethodPost, tunnel: "files", path: "/", body: servers.Noise(1), noToken: true})
			var calling sync.WaitGroup
			defer calling.Wait()
			defer abort()
			calling.Go(func() {
				if response, err := c.Do(request); err == nil {
					_ = response.Body.Close()
				}
			})
			conn := <-taken
			time.Sleep(2 * time.Second) // everything on the way is full
			if freed(conn)(t.Context()) == nil {
				t.Fatal("the call ended by itself: this test sees nothing")
			}
			abort()
			took := within(t, 10*time.Second, "the backend's connection is freed", freed(conn))
			t.Logf("freed after %s", took.Round(time.Millisecond))
		})
	}
}

func TestAgentThatIsToldToStopEndsItsCallsOnLanesWell(t *testing.T) {
	s := startSite(t, options{}, doored("ledger", startEcho(t)))
	s.relay.await(t, "free lanes", func(h halfStatus) bool { return h.link("lane").Lanes >= 2 })
	running := s.call(t, "ledger")
	if l := s.relay.status(t).link("lane"); l.Calls != 1 {
		t.Fatalf("the call is not on a lane: %+v", l)
	}
	second := s.otherAgent(t, "dc1-b", "spiffe://dc1.example/agent/b")
	second.start(t)
	second.ready(t)
	s.relay.await(t, "two agents", func(h halfStatus) bool { return h.Tunnels[0].Up == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.agent.Stop() }()
	s.relay.await(t, "one agent", func(h halfStatus) bool { return h.Tunnels[0].Agents == 1 || h.link("lane").Lanes == 1 })
	for range 20 {
		if err := s.call(t, "ledger").Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := echoed(running, 256<<10); err != nil {
		t.Errorf("the running call was cut: %v", err)
	}
	if err := running.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(running); err != nil || len(rest) > 0 {
		t.Errorf("%d bytes and %v; expected a good end", len(rest), err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}

func TestKilledAgentsCallsOnLanesEndAtOnceAndOthersServeOn(t *testing.T) {
	hold := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			hold <- struct{}{}
			<-hold
		}
	}))
	defer backend.Close()
	defer close(hold)
	s := startSite(t, options{}, doored("ledger", startEcho(t)), tunnel{name: "go", backend: backend.URL})
	s.relay.await(t, "free lanes", func(h halfStatus) bool { return h.link("lane").Lanes >= 2 })
	c := s.caller(t, nil, billingID, h1)
	answers := make(chan answer, 1)
	go func() {
		a, err := c.do(t, call{method: http.MethodPost, tunnel: "go", path: "/hold"})
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	<-hold
	conns := []net.Conn{}
	for range 5 {
		conns = append(conns, s.call(t, "ledger"))
	}
	if l := s.relay.status(t).link("lane"); l.Calls < 4 {
		t.Fatalf("the calls are not on lanes: %+v", l)
	}
	second := s.otherAgent(t, "dc1-b", "spiffe://dc1.example/agent/b")
	second.start(t)
	second.ready(t)
	s.relay.await(t, "two agents", func(h halfStatus) bool { return h.Tunnels[0].Up == 2 })
	s.agent.Kill()
	began := time.Now()
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a call of the killed agent's: %v; expected its end", err)
		}
	}
	select {
	case a := <-answers:
		if a.Response == nil || a.StatusCode != http.StatusBadGateway || a.code() != "link_lost" {
			t.Errorf("answered %+v; expected link_lost", a)
		}
	case <-time.After(5 * time.Second):
		t.Error("the held request is not answered")
	}
	t.Logf("every call had ended after %s", time.Since(began).Round(time.Millisecond))
	for range 20 {
		if err := s.call(t, "ledger").Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.relay.await(t, "one agent", func(h halfStatus) bool { return h.Tunnels[0].Agents == 1 && h.Tunnels[0].Up == 1 })
}

func TestCongestionControlIsChosenByThePath(t *testing.T) {
	offered, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(offered), "bbr") {
		process.Missing(t, "the kernel has no BBR: modprobe tcp_bbr")
	}
	for choice, want := range map[string]string{"auto": "bbr", "bbr": "bbr", "system": "cubic"} {
		t.Run(choice, func(t *testing.T) {
			l := lab.New(t, lab.Options{Conditions: lab.Conditions{Delay: 25 * time.Millisecond}})
			o := labSite(l)
			o.agent = "congestion: " + choice
			s := newSite(t, o, ordersTunnel(servers.StartOrders(t, l.Host("dc"))))
			s.relay.add(t, "congestion: "+choice+"\n")
			s.start(t)
			for _, p := range []*program{s.relay, s.agent} {
				h := p.await(t, "lanes and a shared link", func(h halfStatus) bool { return h.link("lane").Lanes > 0 && h.link("tcp").Congestion != "" })
				for _, transport := range []string{"lane", "tcp"} {
					if got := h.link(transport).Congestion; got != want {
						t.Errorf("%s, %s: %s is in force, expected %s", p.name, transport, got, want)
					}
				}
			}
		})
	}
}
