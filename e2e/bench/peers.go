//go:build linux

package main

import (
	"fmt"
	"os"
)

// peers starts the programs that the environment names; a quick run does without.
func (s *site) peers() []*variant {
	if s.bench.quick {
		return nil
	}
	var all []*variant
	if server, client := os.Getenv("FRPS"), os.Getenv("FRPC"); server != "" && client != "" {
		all = append(all,
			s.frp("frp yamux", server, client, "tcp", true),
			s.frp("frp no mux", server, client, "tcp", false),
			s.frp("frp quic", server, client, "quic", true))
	}
	if program := os.Getenv("CHISEL"); program != "" {
		all = append(all, s.chisel(program))
	}
	return all
}

// frp starts frps in the cloud and frpc in the data centre, both with certificates.
func (s *site) frp(name, server, client, transport string, mux bool) *variant {
	door, hop := s.loopback(), s.address(s.cloud.Addr())
	v := &variant{site: s, name: name, peer: true, raw: []string{door.String()}}
	const files = "certFile = %[1]q\n%[2]skeyFile = %[3]q\n%[2]strustedCaFile = %[4]q\n"
	secured := func(who string) string {
		const under = "transport.tls."
		return under + fmt.Sprintf(files, s.file(who+".crt"), under, s.file(who+".key"), s.file("cloud.pem"))
	}
	frps := s.write(slug(name)+"-frps.toml", fmt.Sprintf(`bindAddr = %q
bindPort = %d
quicBindPort = %d
proxyBindAddr = "127.0.0.1"
transport.tcpMux = %t
transport.tls.force = true
log.level = "error"
%s`, hop.Addr().String(), hop.Port(), hop.Port(), mux, secured("near")))
	frpc := s.write(slug(name)+"-frpc.toml", fmt.Sprintf(`serverAddr = %q
serverPort = %d
loginFailExit = false
transport.protocol = %q
transport.tcpMux = %t
transport.tls.serverName = %q
log.level = "error"
%s
[[proxies]]
name = "raw"
type = "tcp"
localIP = %q
localPort = %d
remotePort = %d
`, hop.Addr().String(), hop.Port(), transport, mux, hopName, secured("far"), s.raw.Addr().String(), s.raw.Port(), door.Port()))
	start := func() { v.near = s.start(name+" server", s.cloud, nil, server, "-c", frps) }
	start()
	v.near.Accepts(s.stage, s.cloud, hop.String())
	v.far = s.start(name+" client", s.dc, nil, client, "-c", frpc)
	s.ready(v.far, v.raw[0])
	v.restart = func() { v.near.Kill(); start() }
	return v
}

// chisel starts its server in the cloud and its client in the data centre, over TLS.
func (s *site) chisel(program string) *variant {
	door, hop := s.loopback(), s.address(s.cloud.Addr())
	v := &variant{site: s, name: "chisel", peer: true, raw: []string{door.String()}}
	start := func() {
		v.near = s.start("chisel server", s.cloud, nil, program, "server", "--reverse", "--host", hop.Addr().String(),
			"--port", fmt.Sprint(hop.Port()), "--tls-cert", s.file("near.crt"), "--tls-key", s.file("near.key"))
	}
	start()
	v.near.Accepts(s.stage, s.cloud, hop.String())
	v.far = s.start("chisel client", s.dc, nil, program, "client", "--tls-ca", s.file("cloud.pem"), "--max-retry-interval", "1s",
		"https://"+hop.String(), fmt.Sprintf("R:%s:%s", door, s.raw))
	s.ready(v.far, v.raw[0])
	v.restart = func() { v.near.Kill(); start() }
	return v
}
