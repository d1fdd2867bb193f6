package certs_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

// established is both ends' view of one connection between an agent and a relay.
func established(t *testing.T) (client, server *tls.ConnectionState, p *pair) {
	t.Helper()
	p = newPair(t)
	c, s := handshake(t, p.client(), p.server())
	if c.err != nil || s.err != nil {
		t.Fatalf("client: %v, server: %v", c.err, s.err)
	}
	return &c.state, &s.state, p
}

func TestANewerSVIDIsProvedOnTheConnectionThatStands(t *testing.T) {
	client, server, p := established(t)
	ec := func(c elliptic.Curve) certstest.Option {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return certstest.Key(key)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]certstest.Option{"P-256": ec(elliptic.P256()), "P-384": ec(elliptic.P384()),
		"P-521": ec(elliptic.P521()), "Ed25519": certstest.Key(ed), "RSA": certstest.RSA(2048)} {
		newer := p.dc.Intermediate(t).Issue(t, agentID, option)
		proof, err := certs.Prove(&newer, client, x509.ExtKeyUsageClientAuth)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		chain, err := proof.Check(server, x509.ExtKeyUsageClientAuth)
		if err != nil || len(chain) != 2 || string(chain[0].Raw) != string(newer.Certificate[0]) {
			t.Errorf("%s: %d certificates, %v", name, len(chain), err)
		}
	}
	newer := p.cloud.Issue(t, "spiffe://cloud.example/relay/a")
	proof, err := certs.Prove(&newer, server, x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.Check(client, x509.ExtKeyUsageServerAuth); err != nil {
		t.Errorf("the server's: %v", err)
	}
}

func TestAProofIsWorthNothingElsewhere(t *testing.T) {
	client, server, p := established(t)
	_, other, _ := established(t)
	newer, stolen := p.dc.Issue(t, agentID), p.dc.Issue(t, "spiffe://dc1.example/agent/b")
	prove := func() *certs.Proof {
		proof, err := certs.Prove(&newer, client, x509.ExtKeyUsageClientAuth)
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	for name, c := range map[string]struct {
		change func(*certs.Proof)
		state  *tls.ConnectionState
		usage  x509.ExtKeyUsage
	}{
		"on another connection":       {func(*certs.Proof) {}, other, x509.ExtKeyUsageClientAuth},
		"sent back":                   {func(*certs.Proof) {}, client, x509.ExtKeyUsageServerAuth},
		"for a leaf without its key":  {func(p *certs.Proof) { p.Chain = stolen.Certificate }, server, x509.ExtKeyUsageClientAuth},
		"a leaf in front":             {func(p *certs.Proof) { p.Chain = [][]byte{stolen.Certificate[0], p.Chain[0]} }, server, x509.ExtKeyUsageClientAuth},
		"another signature":           {func(p *certs.Proof) { p.Signature[len(p.Signature)-1] ^= 1 }, server, x509.ExtKeyUsageClientAuth},
		"no signature":                {func(p *certs.Proof) { p.Signature = nil }, server, x509.ExtKeyUsageClientAuth},
		"no chain":                    {func(p *certs.Proof) { p.Chain = nil }, server, x509.ExtKeyUsageClientAuth},
		"too long a chain":            {func(p *certs.Proof) { p.Chain = [][]byte{{}, {}, {}, {}, {}} }, server, x509.ExtKeyUsageClientAuth},
		"a chain that is no chain":    {func(p *certs.Proof) { p.Chain = [][]byte{{1}} }, server, x509.ExtKeyUsageClientAuth},
		"a certificate of a megabyte": {func(p *certs.Proof) { p.Chain[0] = append(p.Chain[0], make([]byte, 1<<20)...) }, server, x509.ExtKeyUsageClientAuth},
	} {
		proof := prove()
		proof.Chain = append([][]byte(nil), proof.Chain...)
		c.change(proof)
		if chain, err := proof.Check(c.state, c.usage); !errors.Is(err, certs.ErrBadProof) || chain != nil {
			t.Errorf("%s: %d certificates, %v; expected ErrBadProof", name, len(chain), err)
		}
	}
}
