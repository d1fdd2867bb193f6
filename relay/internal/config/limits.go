package config

import "time"

// Limits is `limits` in relay.yaml. The key of each field stands beside it, with its default.
type Limits struct {
	HandshakeTimeout    time.Duration // handshake_timeout: 5s, from the first byte to the end of the TLS handshake
	Unproved            int           // unproved: 512 connections at one time that have not finished it
	UnprovedPerSource   int           // unproved_per_source: 32 of them from one IPv4 address or IPv6 /64
	FailedHandshakes    Rate          // failed_handshakes: {rate: 20, burst: 40} a second from one such source
	QUICUnvalidated     int           // quic_unvalidated: 128 QUIC handshakes at one time before Retry is sent
	RegistrationTimeout time.Duration // registration_timeout: 5s, until an agent's Hello has come
	SessionsPerAgent    int           // sessions_per_agent: 8 sessions of one SPIFFE ID
	StreamsPerSession   int           // streams_per_session: 2000 calls at one time
	SessionBuffer       int           // session_buffer: 64MiB by which the windows of a session may grow together
	HeaderBytes         int           // header_bytes: 32KiB, all of a request's header
	HeaderFieldBytes    int           // header_field_bytes: 8KiB, one field of it
	HeaderCount         int           // header_count: 100 fields
	HeaderReadTimeout   time.Duration // header_read_timeout: 10s
	IdleTimeout         time.Duration // idle_timeout: 60s, a caller's connection between requests
	ExchangeIdleTimeout time.Duration // exchange_idle_timeout: 5m, a plain HTTP exchange on which nothing moves
	MinBodyRate         int           // min_body_rate: 1KiB a second, where a Content-Length was announced; 0: none
	MinBodyGrace        time.Duration // min_body_grace: 10s, before that rate is looked at
	ClockLeeway         time.Duration // clock_leeway: 30s, for the times in tokens
	JWKSGrace           time.Duration // jwks_grace: 1h, how long stale keys serve when no fetch succeeds
}

// A Rate is a bucket of Burst, refilled by PerSecond.
type Rate struct {
	PerSecond float64 // key `rate`
	Burst     int     // key `burst`
}

func defaultLimits() Limits {
	return Limits{
		HandshakeTimeout:    5 * time.Second,
		Unproved:            512,
		UnprovedPerSource:   32,
		FailedHandshakes:    Rate{PerSecond: 20, Burst: 40},
		QUICUnvalidated:     128,
		RegistrationTimeout: 5 * time.Second,
		SessionsPerAgent:    8,
		StreamsPerSession:   2_000,
		SessionBuffer:       64 << 20,
		HeaderBytes:         32 << 10,
		HeaderFieldBytes:    8 << 10,
		HeaderCount:         100,
		HeaderReadTimeout:   10 * time.Second,
		IdleTimeout:         60 * time.Second,
		ExchangeIdleTimeout: 5 * time.Minute,
		MinBodyRate:         1 << 10,
		MinBodyGrace:        10 * time.Second,
		ClockLeeway:         30 * time.Second,
		JWKSGrace:           time.Hour,
	}
}

// limits bounds every limit: what is absurd is a slip of the pen.
func (r *reader) limits(n node, l *Limits) {
	const many = 10_000_000
	n.mapping(keys{
		"handshake_timeout":     duration(&l.HandshakeTimeout, 100*time.Millisecond, time.Minute),
		"unproved":              count(&l.Unproved, 1, many),
		"unproved_per_source":   count(&l.UnprovedPerSource, 1, many),
		"failed_handshakes":     func(n node) { rate(n, &l.FailedHandshakes) },
		"quic_unvalidated":      count(&l.QUICUnvalidated, 0, many),
		"registration_timeout":  duration(&l.RegistrationTimeout, 100*time.Millisecond, time.Minute),
		"sessions_per_agent":    count(&l.SessionsPerAgent, 1, many),
		"streams_per_session":   count(&l.StreamsPerSession, 1, 1_000_000),
		"session_buffer":        size(&l.SessionBuffer, 256<<10, 4<<30-1),
		"header_bytes":          size(&l.HeaderBytes, 1<<10, 1<<20),
		"header_field_bytes":    size(&l.HeaderFieldBytes, 1<<10, 1<<20),
		"header_count":          count(&l.HeaderCount, 10, 10_000),
		"header_read_timeout":   duration(&l.HeaderReadTimeout, 100*time.Millisecond, 5*time.Minute),
		"idle_timeout":          duration(&l.IdleTimeout, time.Second, 24*time.Hour),
		"exchange_idle_timeout": duration(&l.ExchangeIdleTimeout, time.Second, 24*time.Hour),
		"min_body_rate":         size(&l.MinBodyRate, 0, 1<<30),
		"min_body_grace":        duration(&l.MinBodyGrace, time.Second, time.Hour),
		"clock_leeway":          duration(&l.ClockLeeway, time.Second, 5*time.Minute),
		"jwks_grace":            duration(&l.JWKSGrace, time.Second, 24*time.Hour),
	})
}

func rate(n node, dst *Rate) {
	perSecond := int(dst.PerSecond)
	n.mapping(keys{
		"rate":  count(&perSecond, 1, 1_000_000),
		"burst": count(&dst.Burst, 1, 1_000_000),
	})
	dst.PerSecond = float64(perSecond)
}
