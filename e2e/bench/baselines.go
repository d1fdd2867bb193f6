//go:build linux

package main

import (
	"github.com/fairlead/fairlead/e2e/bench/pair"
)

// direct is no tunnel at all.
func (s *site) direct() *variant {
	return &variant{site: s, name: "direct", raw: []string{s.raw.String()}, web: s.web.String()}
}

// pair starts the plain TLS pair.
func (s *site) pair() *variant {
	v := &variant{site: s, name: "pair"}
	entry := pair.Config{Cert: s.file("near.crt"), Key: s.file("near.key"), CA: s.file("cloud.pem"), Name: hopName}
	exit := pair.Config{Cert: s.file("far.crt"), Key: s.file("far.key"), CA: s.file("cloud.pem")}
	way := func(backend string) (door string) {
		door = s.loopback().String()
		hop := s.address(s.dc.Addr()).String()
		entry.Ways = append(entry.Ways, pair.Way{Listen: door, Dial: hop})
		exit.Ways = append(exit.Ways, pair.Way{Listen: hop, Dial: backend})
		return door
	}
	v.raw, v.web = []string{way(s.raw.String())}, way(s.web.String())
	v.far = s.play(s.dc, "pair-exit", exit)
	v.near = s.play(s.cloud, "pair-entry", entry)
	s.ready(v.near, v.raw[0])
	return v
}
