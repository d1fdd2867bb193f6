package certs_test

import (
	"crypto/tls"
	"testing"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

func TestAgentAndRelayRecogniseEachOther(t *testing.T) {
	cloud, dc := certstest.NewCA(t, "cloud.example"), certstest.NewCA(t, "dc1.example")
	relay := certstest.NewSource(cloud.Issue(t, "spiffe://cloud.example/relay/a"), cloud, dc)
	agent := certstest.NewSource(dc.Intermediate(t).Issue(t, "spiffe://dc1.example/agent/a"), cloud)

	client, server := handshake(t,
		certs.ClientConfig(agent, "relay.localhost", []string{"fairlead/1"}, certs.AnyID),
		certs.ServerConfig(relay, []string{"fairlead/1"}, certs.AnyID))
	if client.err != nil || server.err != nil {
		t.Fatalf("client: %v, server: %v", client.err, server.err)
	}
	if client.state.Version != tls.VersionTLS13 || client.state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("agreed on version %x and curve %s", client.state.Version, client.state.CurveID)
	}
}
