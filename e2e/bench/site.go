//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// A host is one of the lab's.
type host = servers.Host

// A site is a lab with a backend in the data centre, and the identities of what is measured between the cloud and it.
type site struct {
	*stage
	bench     *bench
	lab       *lab.Lab
	cloud, dc *lab.Host
	dir       string // certificates, keys and configuration
	token     string // that the gate lets in
	port      uint16 // the last one given away
	raw, web  netip.AddrPort
}

// Who is who.
const (
	relayID  = "spiffe://cloud.example/relay/a"
	agentID  = "spiffe://dc1.example/agent/a"
	callerID = "spiffe://cloud.example/api/load"
	issuer   = "https://idp.example"
	hopName  = "bench" // DNS name in the certificates of the pair's exit and of the peers' servers
	lifetime = 24 * time.Hour
)

// newSite builds the lab, with the baselines' way in open, and starts the backend.
func (b *bench) newSite(on *stage, o lab.Options) *site {
	s := &site{stage: on, bench: b, lab: lab.New(on, o), port: 5000}
	s.cloud, s.dc = s.lab.Host("cloud"), s.lab.Host("dc")
	s.lab.Firewall().AllowIn(true) // direct connections and the pair come in, as Fairlead need not
	for _, h := range []host{s.cloud, s.dc} {
		s.tune(h)
	}
	s.dir = process.Folder(on, "root")
	s.identities()
	s.raw, s.web = s.address(s.dc.Addr()), s.address(s.dc.Addr())
	s.startBackend()
	return s
}

// tune lets a host close thousands of connections a second, and forget what earlier ones met: nothing that is measured
// hands its losses on to the next by the kernel's memory of the peer.
func (s *site) tune(h host) {
	const settings = "cd /proc/sys/net/ipv4 && echo 1 >tcp_tw_reuse && echo 16000 65000 >ip_local_port_range && echo 1 >tcp_no_metrics_save"
	process.Run(s.stage, h.Command(s.ctx, "sh", "-c", settings))
}

// address gives away a port. The lab's hosts are new, so nobody has it.
func (s *site) address(at netip.Addr) netip.AddrPort {
	s.port++
	return netip.AddrPortFrom(at, s.port)
}

func (s *site) loopback() netip.AddrPort { return s.address(netip.AddrFrom4([4]byte{127, 0, 0, 1})) }

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) string {
	path := s.file(name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// identities writes the certificates of all that take part, and mints the token.
func (s *site) identities() {
	cloud, dc := certstest.NewCA(s.stage, "cloud.example"), certstest.NewCA(s.stage, "dc1.example")
	certstest.WriteBundle(s.stage, s.dir, "cloud", cloud)
	certstest.WriteBundle(s.stage, s.dir, "dc1", dc)
	until := certstest.NotAfter(time.Now().Add(lifetime))
	for _, c := range []struct {
		name, id string
		ca       *certstest.CA
	}{
		{"relay", relayID, cloud}, {"agent", agentID, dc}, {"caller", callerID, cloud},
		{"near", "spiffe://cloud.example/near", cloud}, {"far", "spiffe://cloud.example/far", cloud},
	} {
		certstest.WriteCertificate(s.stage, s.dir, c.name, c.ca.Issue(s.stage, c.id, until,
			certstest.DNS(hopName, webHost), certstest.IP(s.cloud.Addr().String())))
	}
	idp := certstest.NewIssuer(s.stage, issuer)
	idp.WriteJWKS(s.stage, s.dir)
	s.token = idp.Mint(s.stage, map[string]any{"scope": "bench.read", "exp": time.Now().Add(lifetime).Unix()})
}

// startBackend starts the raw backend and, as the web's, nginx where it is installed.
func (s *site) startBackend() {
	b := backend{Raw: s.raw.String()}
	if _, err := exec.LookPath("nginx"); err == nil {
		s.bench.results.note("the HTTP backend is nginx")
		nginx := servers.StartNginx(s.stage, s.dc)
		s.web = nginx.Addr
		nginx.WriteFile(s.stage, "1k", 1<<10)
	} else {
		s.bench.results.note("the HTTP backend is Go's net/http, as nginx is not installed")
		b.Web = s.web.String()
	}
	p := s.play(s.dc, "backend", b)
	p.Accepts(s.stage, s.dc, s.raw.String())
	p.Accepts(s.stage, s.dc, s.web.String())
}

// ready waits until a call through the address works.
func (s *site) ready(p *process.Process, address string) {
	p.Ready(s.stage, "carry a call to "+address, func(ctx context.Context) error { return call(ctx, s.cloud, address) })
}

// call is load.Call, from a host of the lab, within a second.
func call(ctx context.Context, from process.Dialer, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(ctx, conn)
}

func exchange(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	b := []byte{'o'}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	if n, err := conn.Read(b); n != 1 || b[0] != 'o' {
		return fmt.Errorf("expected the byte back, got %q, %w", b[:n], err)
	}
	return nil
}
