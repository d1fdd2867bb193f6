//go:build linux

package main

import (
	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

// callers measures what the callers' own TLS costs, which the other sections leave out: the same requests at the local
// door, and at the relay's port with a certificate. The client is Go's in each case.
func (b *bench) callers(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	variants := s.fairleads(1)[:1]
	secured := load.TLS{Cert: s.file("caller.crt"), Key: s.file("caller.key"), CA: s.file("cloud.pem"), Name: webHost}
	h2 := secured
	h2.H2 = true
	for _, c := range []struct {
		name string
		tls  *load.TLS
		once bool
	}{
		{"local door, HTTP/1.1 on 32 kept connections", nil, false},
		{"mutual TLS, HTTP/1.1 on 32 kept connections", &secured, false},
		{"mutual TLS, HTTP/2, 32 at a time on one connection", &h2, false},
		{"mutual TLS, HTTP/1.1, a connection a call", &secured, true},
	} {
		s.interleave(b.reps, "callers", c.name, variants, func(v *variant) (values, error) {
			warm, window := b.windows()
			spec := load.Spec{Kind: load.HTTP, Address: []string{v.web}, Streams: webStreams, Warm: warm, Window: window,
				Header: "Bearer " + s.token, TLS: c.tls, Once: c.once}
			if c.tls != nil {
				spec.Address = []string{v.hop}
			}
			r, err := s.load(v, spec, nil)
			if err != nil {
				return nil, err
			}
			return callValues(r), nil
		})
	}
}
