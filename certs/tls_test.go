package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

var alpn = []string{"fairlead/1"}

// pair is a relay of cloud.example and an agent of dc1.example that believe each other.
type pair struct {
	cloud, dc    *certstest.CA
	relay, agent *certstest.Source
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{cloud: certstest.NewCA(t, "cloud.example"), dc: certstest.NewCA(t, "dc1.example")}
	p.relay = certstest.NewSource(p.cloud.Issue(t, "spiffe://cloud.example/relay/a"), p.cloud, p.dc)
	p.agent = certstest.NewSource(p.dc.Issue(t, agentID), p.cloud)
	return p
}

func (p *pair) client() *tls.Config {
	return certs.ClientConfig(p.agent, "relay.localhost", alpn, certs.AnyID)
}
func (p *pair) server() *tls.Config { return certs.ServerConfig(p.relay, alpn, certs.AnyID) }

func TestAgentAndRelayRecogniseEachOtherOverPostQuantumTLS13(t *testing.T) {
	p := newPair(t)
	p.agent.SetCertificate(p.dc.Intermediate(t).Issue(t, agentID))
	client, server := handshake(t, p.client(), p.server())
	if client.err != nil || server.err != nil {
		t.Fatalf("client: %v, server: %v", client.err, server.err)
	}
	if s := client.state; s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519MLKEM768 || s.NegotiatedProtocol != alpn[0] {
		t.Errorf("agreed on version %x, curve %s, protocol %q", s.Version, s.CurveID, s.NegotiatedProtocol)
	}
}

// H01
func TestClientWithoutCertificateIsRefused(t *testing.T) {
	p := newPair(t)
	config := p.client()
	config.GetClientCertificate = nil
	client, server := handshake(t, config, p.server())
	if client.err == nil || server.err == nil {
		t.Errorf("client: %v, server: %v", client.err, server.err)
	}
}

func TestServerRefusesBadClients(t *testing.T) {
	p := newPair(t)
	stranger := certstest.NewCA(t, "dc1.example")
	foreign := certstest.NewCA(t, "elsewhere.example")
	for name, test := range map[string]struct {
		cert tls.Certificate
		want certs.Reason
	}{
		"expired":          {p.dc.Issue(t, agentID, certstest.NotAfter(time.Now().Add(-time.Second))), certs.ReasonExpired},        // H03
		"not yet valid":    {p.dc.Issue(t, agentID, certstest.NotBefore(time.Now().Add(time.Minute))), certs.ReasonNotYetValid},    // H03
		"unknown CA":       {stranger.Issue(t, agentID), certs.ReasonUntrusted},                                                    // H02
		"no bundle":        {foreign.Issue(t, "spiffe://elsewhere.example/a"), certs.ReasonUnknownTrustDomain},                     // H02
		"foreign claims":   {p.cloud.Issue(t, agentID), certs.ReasonUntrusted},                                                     // H12
		"two URI SANs":     {p.dc.Issue(t, agentID, certstest.URIs(agentID, agentID+"b")), certs.ReasonBadID},                      // H04
		"self-signed":      {p.dc.Issue(t, agentID, certstest.SelfSigned(), certstest.Append(p.dc.Root())), certs.ReasonUntrusted}, // H06
		"CA as a leaf":     {p.dc.Issue(t, agentID, certstest.AsCA()), certs.ReasonNotLeaf},                                        // H07
		"server's purpose": {p.dc.Issue(t, agentID, certstest.Usage(x509.ExtKeyUsageServerAuth)), certs.ReasonWrongUsage},          // H07
	} {
		t.Run(name, func(t *testing.T) {
			p.agent.SetCertificate(test.cert)
			client, server := handshake(t, p.client(), p.server())
			refused(t, server.err, test.want)
			if client.err == nil {
				t.Error("the client was served")
			}
		})
	}
}

func TestClientRefusesBadServers(t *testing.T) {
	p := newPair(t)
	const relayID = "spiffe://cloud.example/relay/a"
	for name, test := range map[string]struct {
		cert tls.Certificate
		want certs.Reason
	}{
		"expired":          {p.cloud.Issue(t, relayID, certstest.NotAfter(time.Now().Add(-time.Second))), certs.ReasonExpired},
		"unknown CA":       {certstest.NewCA(t, "cloud.example").Issue(t, relayID), certs.ReasonUntrusted},
		"foreign claims":   {p.dc.Issue(t, relayID), certs.ReasonUntrusted},
		"client's purpose": {p.cloud.Issue(t, relayID, certstest.Usage(x509.ExtKeyUsageClientAuth)), certs.ReasonWrongUsage},
		"name without ID":  {p.cloud.Issue(t, relayID, certstest.URIs(), certstest.DNS("relay.localhost")), certs.ReasonBadID},
	} {
		t.Run(name, func(t *testing.T) {
			p.relay.SetCertificate(test.cert)
			client, _ := handshake(t, p.client(), p.server())
			refused(t, client.err, test.want)
		})
	}
}

func TestIdentityThatIsNotAuthorizedIsRefused(t *testing.T) {
	p := newPair(t)
	errNotHere := errors.New("not on the list")
	for name, authorize := range map[string]func(certs.ID) error{
		"authorize says no":   func(certs.ID) error { return errNotHere },
		"nobody said who may": nil,
	} {
		_, server := handshake(t, p.client(), certs.ServerConfig(p.relay, alpn, authorize))
		refusal := refused(t, server.err, certs.ReasonDenied)
		if !strings.Contains(refusal.Claim, agentID) || authorize != nil && !errors.Is(server.err, errNotHere) {
			t.Errorf("%s: %v", name, server.err)
		}
		client, _ := handshake(t, certs.ClientConfig(p.agent, "", alpn, authorize), p.server())
		refused(t, client.err, certs.ReasonDenied)
	}
}

// H08: with a session cache of its own making the client still gets no session to resume, so the second connection goes
// through the whole check again.
func TestResumptionIsImpossible(t *testing.T) {
	p := newPair(t)
	allowed := true
	server := certs.ServerConfig(p.relay, alpn, func(certs.ID) error {
		if !allowed {
			return errors.New("banned")
		}
		return nil
	})
	config := p.client()
	cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	config.ClientSessionCache = cache
	config.SessionTicketsDisabled = false // what a hostile client would do
	if client, srv := handshake(t, config, server); client.err != nil || srv.err != nil {
		t.Fatalf("client: %v, server: %v", client.err, srv.err)
	}
	if cache.puts != 0 {
		t.Errorf("the server handed out %d tickets", cache.puts)
	}
	client, srv := handshake(t, config, server)
	if client.state.DidResume || client.err != nil || srv.err != nil {
		t.Fatalf("resumed: %v, client: %v, server: %v", client.state.DidResume, client.err, srv.err)
	}
	allowed = false
	_, srv = handshake(t, config, server)
	refused(t, srv.err, certs.ReasonDenied)
	allowed = true
	p.relay.Distrust(p.dc.TrustDomain())
	_, srv = handshake(t, config, server)
	refused(t, srv.err, certs.ReasonUnknownTrustDomain)
}

type countingCache struct {
	tls.ClientSessionCache
	puts int
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts++
	}
	c.ClientSessionCache.Put(key, s)
}

func TestEveryHandshakeAsksTheSourceAnew(t *testing.T) {
	p := newPair(t)
	client, server := p.client(), p.server()
	if c, s := handshake(t, client, server); c.err != nil || s.err != nil {
		t.Fatalf("client: %v, server: %v", c.err, s.err)
	}
	renewed := p.cloud.Issue(t, "spiffe://cloud.example/relay/a")
	p.relay.SetCertificate(renewed)
	other := p.dc.Issue(t, "spiffe://dc1.example/agent/b")
	p.agent.SetCertificate(other)
	c, s := handshake(t, client, server)
	if c.err != nil || s.err != nil {
		t.Fatalf("client: %v, server: %v", c.err, s.err)
	}
	if !c.state.PeerCertificates[0].Equal(renewed.Leaf) || !s.state.PeerCertificates[0].Equal(other.Leaf) {
		t.Error("an old certificate was shown")
	}
	errGone := errors.New("gone")
	p.relay.Fail(errGone)
	if _, s := handshake(t, client, server); !errors.Is(s.err, errGone) {
		t.Errorf("a source without certificate: %v", s.err)
	}
}

// H15
func TestTLS12IsRefusedByAll(t *testing.T) {
	p := newPair(t)
	for name, server := range map[string]*tls.Config{
		"agents' side":  p.server(),
		"callers' side": certs.CallerConfig(p.relay, nil, alpn),
	} {
		config := p.client()
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if _, s := handshake(t, config, server); s.err == nil {
			t.Errorf("%s spoke TLS 1.2", name)
		}
	}
	server := p.server()
	server.MinVersion, server.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if c, _ := handshake(t, p.client(), server); c.err == nil {
		t.Error("the client spoke TLS 1.2")
	}
}

func TestCallerIsAskedForACertificateAndNotJudged(t *testing.T) {
	p := newPair(t)
	web := certstest.NewCA(t, "web.example").Issue(t, "spiffe://web.example/a", certstest.DNS("localhost"))
	server := certs.CallerConfig(p.relay, func() (*tls.Certificate, error) { return &web, nil }, alpn)
	plain := &tls.Config{InsecureSkipVerify: true, NextProtos: alpn} // a caller without an SVID
	c, s := handshake(t, plain, server)
	if c.err != nil || s.err != nil || len(s.state.PeerCertificates) != 0 {
		t.Fatalf("without: client %v, server %v", c.err, s.err)
	}
	if !c.state.PeerCertificates[0].Equal(web.Leaf) {
		t.Error("server_certificate was not shown")
	}
	plain.Certificates = []tls.Certificate{p.dc.Issue(t, agentID, certstest.NotAfter(time.Now().Add(-time.Hour)))}
	c, s = handshake(t, plain, certs.CallerConfig(p.relay, nil, alpn))
	if c.err != nil || s.err != nil {
		t.Fatalf("with a bad one: client %v, server %v", c.err, s.err)
	}
	if id, err := certs.LeafID(c.state.PeerCertificates[0]); err != nil || id != p.relay.ID() {
		t.Errorf("not the SVID was shown, but %s: %v", id, err)
	}
	_, err := certs.Verify(p.relay, s.state.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
	refused(t, err, certs.ReasonExpired)
}
