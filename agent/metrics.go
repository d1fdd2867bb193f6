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
	m.registry.MustRegister(m.calls, m.inFlight, m.duration, m.bytes, collectors.NewGoCollector(),
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
	linksDesc = prometheus.NewDesc("fairlead_agent_links", "Links that stand, by transport.", []string{"transport"}, nil)
	rttDesc   = prometheus.NewDesc("fairlead_agent_link_rtt_seconds", "Smoothed round-trip time of a link.",
		[]string{"relay", "address", "transport"}, nil)
	expiryDesc = prometheus.NewDesc("fairlead_agent_identity_expiry_timestamp_seconds", "When the agent's SVID expires.", nil, nil)
)

func (linkCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- linksDesc
	ch <- rttDesc
	ch <- expiryDesc
}

func (c linkCollector) Collect(ch chan<- prometheus.Metric) {
	g := c.a.current.Load()
	up := map[string]int{"tcp": 0, "quic": 0}
	for _, l := range g.uplink.Status() {
		if l.Up {
			up[l.Transport]++
			ch <- prometheus.MustNewConstMetric(rttDesc, prometheus.GaugeValue, l.RTT.Seconds(), l.Relay, l.Address, l.Transport)
		}
	}
	for transport, n := range up {
		ch <- prometheus.MustNewConstMetric(linksDesc, prometheus.GaugeValue, float64(n), transport)
	}
	if cert, err := g.source.Certificate(); err == nil {
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(cert.Leaf.NotAfter.UnixNano())/float64(time.Second))
	}
}
