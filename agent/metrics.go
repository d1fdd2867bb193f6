package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fairlead/fairlead/agent/internal/dispatch"
	"github.com/fairlead/fairlead/protocol"
)

// metrics are the agent's. Their labels are words of the agent's own file and of the code table: no caller chooses one.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec

	auditLost    prometheus.Counter
	auditFailing prometheus.Gauge
}

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_agent_calls_total",
			Help: "Calls that ended, by the code they ended with."}, []string{"tunnel", "network", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_agent_calls_in_flight",
			Help: "Calls that run now."}, []string{"tunnel", "network"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fairlead_agent_backend_wait_seconds",
			Help:    "Time until the backend's response header, or its connection, was there.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9)}, []string{"tunnel"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_agent_call_bytes_total",
			Help: "Bytes of calls, from relays (in) and to them (out)."}, []string{"tunnel", "direction"}),
	}
	m.auditLost = prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_agent_audit_lost_total",
		Help: "Records that could not be written."})
	m.auditFailing = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_agent_audit_failing",
		Help: "1 while records cannot be written."})
	m.registry.MustRegister(m.calls, m.inFlight, m.duration, m.bytes, m.auditLost, m.auditFailing, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), linkCollector{a})
	return m
}

func (m *metrics) began(t protocol.TunnelName, n protocol.Network) {
	m.inFlight.WithLabelValues(string(t), n.String()).Inc()
}

func (m *metrics) ended(r *dispatch.Report) {
	tunnel, network := string(r.Tunnel), r.Network.String()
	m.inFlight.WithLabelValues(tunnel, network).Dec()
	m.calls.WithLabelValues(tunnel, network, r.Code.String()).Inc()
	m.bytes.WithLabelValues(tunnel, "in").Add(float64(r.In))
	m.bytes.WithLabelValues(tunnel, "out").Add(float64(r.Out))
	if r.Code == protocol.OK {
		m.duration.WithLabelValues(tunnel).Observe(r.Wait.Seconds())
	}
}

// linkCollector reads the links when somebody asks.
type linkCollector struct{ a *Agent }

var (
	linksDesc = prometheus.NewDesc("fairlead_agent_links", "Links that stand, by transport; the lanes to one address are one.",
		[]string{"transport"}, nil)
	lanesDesc      = prometheus.NewDesc("fairlead_agent_lanes", "Lanes that stand.", laneLabels, nil)
	busyLanesDesc  = prometheus.NewDesc("fairlead_agent_lanes_busy", "Lanes that carry a call.", laneLabels, nil)
	rttDesc        = prometheus.NewDesc("fairlead_agent_link_rtt_seconds", "Smoothed round-trip time of a link that stands.", linkLabels, nil)
	sentDesc       = prometheus.NewDesc("fairlead_agent_link_packets_sent_total", "Packets (TCP: segments) sent to a relay.", linkLabels, nil)
	lostDesc       = prometheus.NewDesc("fairlead_agent_link_packets_lost_total", "Of them, those that were lost or sent again.", linkLabels, nil)
	linkBytesDesc  = prometheus.NewDesc("fairlead_agent_link_bytes_total", "Bytes below TLS, from relays (in) and to them (out), with what was sent again.", waysLabels, nil)
	goodputDesc    = prometheus.NewDesc("fairlead_agent_link_goodput_bytes_per_second", "Mean of five seconds, without what was sent again.", waysLabels, nil)
	udpMissingDesc = prometheus.NewDesc("fairlead_agent_udp_buffer_missing_bytes", "What the system refused of the largest buffers that QUIC asked for.", nil, nil)
	expiryDesc     = prometheus.NewDesc("fairlead_agent_expiry_timestamp_seconds", "When an SVID or a bundle expires.", []string{"kind", "name"}, nil)

	laneLabels = []string{"relay", "address"}
	linkLabels = []string{"relay", "address", "transport"}
	waysLabels = []string{"relay", "address", "transport", "direction"}
)

func (linkCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{linksDesc, lanesDesc, busyLanesDesc, rttDesc, sentDesc, lostDesc, linkBytesDesc, goodputDesc,
		udpMissingDesc, expiryDesc} {
		ch <- d
	}
}

func (c linkCollector) Collect(ch chan<- prometheus.Metric) {
	put := func(kind prometheus.ValueType) func(*prometheus.Desc, float64, ...string) {
		return func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
		}
	}
	gauge, counter := put(prometheus.GaugeValue), put(prometheus.CounterValue)
	g := c.a.current.Load()
	up, missing := map[string]int{"tcp": 0, "lane": 0, "quic": 0}, 0
	for _, l := range g.uplink.Status() {
		id := []string{l.Relay, l.Address, l.Transport}
		if l.Up {
			up[l.Transport]++
			gauge(rttDesc, l.RTT.Seconds(), id...)
		}
		if l.Transport == "lane" {
			gauge(lanesDesc, float64(l.Lanes), l.Relay, l.Address)
			gauge(busyLanesDesc, float64(l.Busy), l.Relay, l.Address)
		}
		if l.UDP != nil {
			missing = max(missing, l.UDP.Short)
		}
		counter(sentDesc, float64(l.Total.SentPackets), id...)
		counter(lostDesc, float64(l.Total.LostPackets), id...)
		counter(linkBytesDesc, float64(l.Total.ReceivedBytes), append(id, "in")...)
		counter(linkBytesDesc, float64(l.Total.SentBytes), append(id, "out")...)
		gauge(goodputDesc, float64(l.In), append(id, "in")...)
		gauge(goodputDesc, float64(l.Out), append(id, "out")...)
	}
	for transport, n := range up {
		gauge(linksDesc, float64(n), transport)
	}
	gauge(udpMissingDesc, float64(missing))
	for _, e := range g.source.Expiries() {
		gauge(expiryDesc, float64(e.Until.UnixNano())/float64(time.Second), e.Kind, e.Name)
	}
}
