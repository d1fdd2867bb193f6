package relay

import (
	"crypto/tls"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/relay/internal/gateway"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// metrics are the relay's. Their labels are words of the relay's own file and of the code table: no caller chooses one.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	shakes   *prometheus.CounterVec

	auditLost    prometheus.Counter
	auditFailing prometheus.Gauge
}

func newMetrics(r *Relay) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_relay_calls_total",
			Help: "Calls that ended, by the code they ended with. tunnel is empty where the caller may not know of one."},
			[]string{"tunnel", "network", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fairlead_relay_call_duration_seconds",
			Help: "Time from a call's first byte to its end.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)},
			[]string{"tunnel", "network"}),
	}
	m.shakes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_relay_handshakes_total",
		Help: "Handshakes that went well, by who came (agent, lane, caller), transport and key agreement; post_quantum says whether that is one."},
		[]string{"kind", "transport", "key_agreement", "post_quantum"})
	m.auditLost = prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_relay_audit_lost_total",
		Help: "Records that could not be written."})
	m.auditFailing = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_relay_audit_failing",
		Help: "1 while records cannot be written."})
	m.registry.MustRegister(m.calls, m.duration, m.shakes, m.auditLost, m.auditFailing, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), stateCollector{r})
	return m
}

// shook counts a handshake. Which key agreements there are is for the TLS library to say, and they are few.
func (m *metrics) shook(kind, transport string, curve tls.CurveID) {
	m.shakes.WithLabelValues(kind, transport, curve.String(), strconv.FormatBool(certs.PostQuantum(curve))).Inc()
}

func (m *metrics) observe(c gateway.Record) {
	tunnel, network := string(c.Tunnel), c.Network.String()
	m.calls.WithLabelValues(tunnel, network, c.Code.String()).Inc()
	m.duration.WithLabelValues(tunnel, network).Observe(c.Duration.Seconds())
}

// stateCollector reads the relay's state when somebody asks.
type stateCollector struct{ r *Relay }

// Agents are many, and come and go: what their links do is told by transport alone.
var (
	linksDesc      = prometheus.NewDesc("fairlead_relay_links", "Agents' links, by transport; the lanes of one agent process are one.", byTransport, nil)
	lanesDesc      = prometheus.NewDesc("fairlead_relay_lanes", "Agents' lanes that stand.", nil, nil)
	busyLanesDesc  = prometheus.NewDesc("fairlead_relay_lanes_busy", "Agents' lanes that carry a call.", nil, nil)
	minRTTDesc     = prometheus.NewDesc("fairlead_relay_link_rtt_min_seconds", "Shortest smoothed round-trip time of the links.", byTransport, nil)
	maxRTTDesc     = prometheus.NewDesc("fairlead_relay_link_rtt_max_seconds", "Longest smoothed round-trip time of the links.", byTransport, nil)
	sentDesc       = prometheus.NewDesc("fairlead_relay_link_packets_sent_total", "Packets (TCP: segments) sent to agents.", byTransport, nil)
	lostDesc       = prometheus.NewDesc("fairlead_relay_link_packets_lost_total", "Of them, those that were lost or sent again.", byTransport, nil)
	linkBytesDesc  = prometheus.NewDesc("fairlead_relay_link_bytes_total", "Bytes below TLS, from agents (in) and to them (out), with what was sent again.", byWay, nil)
	goodputDesc    = prometheus.NewDesc("fairlead_relay_link_goodput_bytes_per_second", "Sum over the links: mean of five seconds, without what was sent again.", byWay, nil)
	udpMissingDesc = prometheus.NewDesc("fairlead_relay_udp_buffer_missing_bytes", "What the system refused of the largest buffers that QUIC asked for.", nil, nil)
	agentsDesc     = prometheus.NewDesc("fairlead_relay_tunnel_agents", "Agent processes that serve a tunnel, answer, and whose backend is up.", []string{"tunnel"}, nil)
	unprovedDesc   = prometheus.NewDesc("fairlead_relay_unproved_connections", "Connections that have not proved who they are.", nil, nil)
	expiryDesc     = prometheus.NewDesc("fairlead_relay_expiry_timestamp_seconds", "When an SVID, a bundle, the server_certificate or the keys of an issuer expire.", []string{"kind", "name"}, nil)

	byTransport = []string{"transport"}
	byWay       = []string{"transport", "direction"}
)

func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{linksDesc, lanesDesc, busyLanesDesc, minRTTDesc, maxRTTDesc, sentDesc, lostDesc, linkBytesDesc,
		goodputDesc, udpMissingDesc, agentsDesc, unprovedDesc, expiryDesc} {
		ch <- d
	}
}

func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	c.collectLinks(ch, gauge)
	for _, t := range c.r.current.Load().table.All() {
		_, up := c.r.registry.Agents(t.Name)
		gauge(agentsDesc, float64(up), string(t.Name))
	}
	if b := c.r.udp.Load(); b != nil {
		gauge(udpMissingDesc, float64(b.Short))
	}
	gauge(unprovedDesc, float64(c.r.strangers.Unproved()))
	for _, e := range c.r.Expiries() {
		gauge(expiryDesc, float64(e.Until.UnixNano())/float64(time.Second), e.Kind, e.Name)
	}
}

func (c stateCollector) collectLinks(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	type sum struct {
		links    int
		min, max time.Duration
		in, out  uint64
	}
	sums := map[string]*sum{"tcp": {}, registry.Lane: {}, "quic": {}}
	lanes, busy := 0, 0
	for _, l := range c.r.registry.Snapshot() {
		s := sums[l.Transport]
		if s == nil {
			continue // no such transport is known
		}
		s.links++
		s.in, s.out = s.in+l.In, s.out+l.Out
		lanes, busy = lanes+l.Lanes, busy+l.Busy
		if l.RTT > 0 && (s.min == 0 || l.RTT < s.min) {
			s.min = l.RTT
		}
		s.max = max(s.max, l.RTT)
	}
	gauge(lanesDesc, float64(lanes))
	gauge(busyLanesDesc, float64(busy))
	totals := c.r.registry.Totals()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for transport, s := range sums {
		gauge(linksDesc, float64(s.links), transport)
		if s.min > 0 {
			gauge(minRTTDesc, s.min.Seconds(), transport)
			gauge(maxRTTDesc, s.max.Seconds(), transport)
		}
		gauge(goodputDesc, float64(s.in), transport, "in")
		gauge(goodputDesc, float64(s.out), transport, "out")
		total := totals[transport]
		counter(sentDesc, total.SentPackets, transport)
		counter(lostDesc, total.LostPackets, transport)
		counter(linkBytesDesc, total.ReceivedBytes, transport, "in")
		counter(linkBytesDesc, total.SentBytes, transport, "out")
	}
}
