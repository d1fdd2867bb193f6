package relay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fairlead/fairlead/relay/internal/gateway"
)

// metrics are the relay's. Their labels are words of the relay's own file and of the code table: no caller chooses one.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
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
	m.registry.MustRegister(m.calls, m.duration, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), stateCollector{r})
	return m
}

func (m *metrics) observe(c gateway.Record) {
	tunnel, network := string(c.Tunnel), c.Network.String()
	m.calls.WithLabelValues(tunnel, network, c.Code.String()).Inc()
	m.duration.WithLabelValues(tunnel, network).Observe(c.Duration.Seconds())
}

// stateCollector reads the relay's state when somebody asks.
type stateCollector struct{ r *Relay }

var (
	linksDesc    = prometheus.NewDesc("fairlead_relay_links", "Agents' links, by transport.", []string{"transport"}, nil)
	pathsDesc    = prometheus.NewDesc("fairlead_relay_tunnel_agents", "Links that serve a tunnel and whose backend is up.", []string{"tunnel"}, nil)
	unprovedDesc = prometheus.NewDesc("fairlead_relay_unproved_connections", "Connections that have not proved who they are.", nil, nil)
	expiryDesc   = prometheus.NewDesc("fairlead_relay_identity_expiry_timestamp_seconds", "When the relay's SVID expires.", nil, nil)
)

func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{linksDesc, pathsDesc, unprovedDesc, expiryDesc} {
		ch <- d
	}
}

func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	links := map[string]int{"tcp": 0, "quic": 0}
	for _, l := range c.r.registry.Snapshot() {
		links[l.Transport]++
	}
	for transport, n := range links {
		gauge(linksDesc, float64(n), transport)
	}
	for _, t := range c.r.current.Load().table.All() {
		up := 0
		for _, l := range c.r.registry.Candidates(t.Name) {
			if l.Up(t.Name) {
				up++
			}
		}
		gauge(pathsDesc, float64(up), string(t.Name))
	}
	gauge(unprovedDesc, float64(c.r.strangers.Unproved()))
	if cert, err := c.r.source.Certificate(); err == nil {
		gauge(expiryDesc, float64(cert.Leaf.NotAfter.UnixNano())/float64(time.Second))
	}
}
