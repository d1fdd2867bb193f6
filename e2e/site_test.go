//go:build linux

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/servers"
)

// A site is one relay and one agent with tunnels between them, and the identities of all who take part.
type site struct {
	*identities
	address      netip.AddrPort // the relay's
	relay, agent *program
	tunnels      []tunnel
}

// options say where a site's halves run and what the agent's file says beyond the tunnels; the zero value is this
// machine's loopback.
type options struct {
	cloud, dc servers.Host
	relay     string // more keys in relay.yaml, as lines of YAML
	agent     string // more keys in agent.yaml, likewise
	issuers   string // more entries of tokens in relay.yaml, as lines of YAML
	fast      bool   // without the race detector
}

// newSite writes all files and starts nothing.
func newSite(t *testing.T, o options, tunnels ...tunnel) *site {
	t.Helper()
	if o.cloud == nil {
		o.cloud, o.dc = new(servers.Loopback), new(servers.Loopback)
	}
	s := &site{identities: newIdentities(t), address: servers.FreePort(t, o.cloud), tunnels: tunnels}
	var relay, agent strings.Builder
	fmt.Fprintf(&relay, `listen: %s
identity: {svid: {cert: relay.crt, key: relay.key}}
trust:
  cloud.example: {bundle: cloud.pem}
  dc1.example: {bundle: dc1.pem}
tokens:
  - {issuer: %s, audiences: [fairlead], jwks: idp.jwks.json, algorithms: [ES256]}
%s
%s
tunnels:
`, s.address, issuerURL, o.issuers, o.relay)
	fmt.Fprintf(&agent, `name: dc1-a
relays: ["%s"]
relay_id: ["spiffe://cloud.example/relay/*"]
identity: {svid: {cert: agent.crt, key: agent.key}}
trust: {cloud.example: {bundle: cloud.pem}}
%s
tunnels:
`, s.address, o.agent)
	for _, u := range tunnels {
		relay.WriteString(u.inRelay())
		agent.WriteString(u.inAgent())
	}
	s.relay = newProgram(t, s.identities, o.cloud, "relay", relay.String())
	s.agent = newProgram(t, s.identities, o.dc, "agent", agent.String())
	s.relay.fast, s.agent.fast = o.fast, o.fast
	return s
}

// startSite is newSite, with both halves running and ready.
func startSite(t *testing.T, o options, tunnels ...tunnel) *site {
	t.Helper()
	s := newSite(t, o, tunnels...)
	s.start(t)
	return s
}

// start runs both halves until they are ready.
func (s *site) start(t *testing.T) {
	t.Helper()
	s.relay.start(t)
	s.relay.ready(t)
	s.agent.start(t)
	s.agent.ready(t)
}

// tunnel returns the tunnel with the name.
func (s *site) tunnel(t *testing.T, name string) tunnel {
	t.Helper()
	for _, u := range s.tunnels {
		if u.name == name {
			return u
		}
	}
	t.Fatalf("the site has no tunnel %q", name)
	return tunnel{}
}
