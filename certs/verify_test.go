package certs_test

import (
	"crypto/dsa" //nolint:staticcheck // a key that must be refused
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

const agentID = "spiffe://dc1.example/agent/a"

func chainOf(t *testing.T, cert tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

func verifyClient(src certs.Source, chain []*x509.Certificate) (certs.Identity, error) {
	return certs.Verify(src, chain, x509.ExtKeyUsageClientAuth, time.Now())
}

// refused fails the test unless err is a *VerifyError with that reason, on one line of plain text.
func refused(t *testing.T, err error, want certs.Reason) *certs.VerifyError {
	t.Helper()
	refusal, ok := errors.AsType[*certs.VerifyError](err)
	if !ok {
		t.Fatalf("got %v, want a VerifyError with reason %s", err, want)
	}
	if refusal.Reason != want {
		t.Fatalf("got reason %s (%v), want %s", refusal.Reason, err, want)
	}
	for _, r := range refusal.Error() {
		if r < ' ' || r == 0x7f {
			t.Fatalf("text is not safe to log: %q", refusal.Error())
		}
	}
	return refusal
}

func TestIdentityIsReadFromAGoodChain(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	cert := ca.Intermediate(t).Issue(t, agentID)
	got, err := verifyClient(src, chainOf(t, cert))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID.String() != agentID || !got.NotAfter.Equal(cert.Leaf.NotAfter) || got.Generation != src.Generation() ||
		got.Serial != cert.Leaf.SerialNumber.Text(16) {
		t.Errorf("got %+v", got)
	}
}

func TestIdentityEndsWithTheFirstCertificateOfItsChain(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	cert := ca.Issue(t, agentID, certstest.NotAfter(time.Now().AddDate(20, 0, 0)))
	got, err := verifyClient(certstest.NewSource(cert, ca), chainOf(t, cert))
	if err != nil || !got.NotAfter.Equal(ca.Root().NotAfter) {
		t.Errorf("ends %s, the root ends %s: %v", got.NotAfter, ca.Root().NotAfter, err)
	}
}

// H03
func TestExpiredCertificateIsRefusedWithBoundAndDistance(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	cert := ca.Issue(t, agentID)
	at := func(now time.Time) error {
		_, err := certs.Verify(src, chainOf(t, cert), x509.ExtKeyUsageClientAuth, now)
		return err
	}
	start, end := cert.Leaf.NotBefore, cert.Leaf.NotAfter
	for _, now := range []time.Time{start, start.Add(-30 * time.Second), end} {
		if err := at(now); err != nil {
			t.Errorf("%s: %v", now, err)
		}
	}
	late := refused(t, at(end.Add(90*time.Second)), certs.ReasonExpired)
	if !strings.Contains(late.Text, end.UTC().Format(time.RFC3339)) || !strings.Contains(late.Text, "1m30s ago") {
		t.Errorf("text: %s", late.Text)
	}
	early := refused(t, at(start.Add(-2*time.Minute)), certs.ReasonNotYetValid)
	if !strings.Contains(early.Text, start.UTC().Format(time.RFC3339)) || !strings.Contains(early.Text, "2m0s away") {
		t.Errorf("text: %s", early.Text)
	}
	refused(t, at(end.Add(time.Second)), certs.ReasonExpired)
	refused(t, at(start.Add(-31*time.Second)), certs.ReasonNotYetValid)
}

// H04
func TestLeafWithoutExactlyOneStrictSPIFFEIDIsRefused(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	for name, uris := range map[string][]string{
		"no URI":              {},
		"two URIs":            {agentID, "spiffe://dc1.example/agent/b"},
		"one URI twice":       {agentID, agentID},
		"an ID and a web URI": {agentID, "https://dc1.example/"},
		"web URI":             {"https://dc1.example/agent/a"},
		"root path":           {"spiffe://dc1.example"},
		"bare slash":          {"spiffe://dc1.example/"},
		"trailing slash":      {agentID + "/"},
		"query":               {agentID + "?x=1"},
		"empty query":         {agentID + "?"},
		"fragment":            {agentID + "#x"},
		"empty fragment":      {agentID + "#"}, // net/url drops it
		"port":                {"spiffe://dc1.example:443/agent/a"},
		"user":                {"spiffe://u@dc1.example/agent/a"},
		"upper-case domain":   {"spiffe://DC1.example/agent/a"},
		"upper-case scheme":   {"SPIFFE://dc1.example/agent/a"}, // net/url lowers it
		"encoded dots":        {"spiffe://dc1.example/%2e%2e/a"},
		"encoded letter":      {"spiffe://dc1.example/%61gent/a"},
		"dots":                {"spiffe://dc1.example/../a"},
		"empty segment":       {"spiffe://dc1.example//agent/a"},
		"2,049 bytes":         {"spiffe://dc1.example/" + strings.Repeat("a", 2049-len("spiffe://dc1.example/"))},
		"domain of 256 bytes": {"spiffe://" + strings.Repeat("a.", 127) + "aa/agent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifyClient(src, chainOf(t, ca.Issue(t, agentID, certstest.URIs(uris...))))
			refused(t, err, certs.ReasonBadID)
		})
	}
	long := "spiffe://dc1.example/" + strings.Repeat("a", 2048-len("spiffe://dc1.example/"))
	if _, err := verifyClient(src, chainOf(t, ca.Issue(t, long))); err != nil {
		t.Errorf("an ID of 2,048 bytes: %v", err)
	}
}

// H05
func TestCertificatePaddedBehindTheLeafLendsNoIdentity(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	victim := ca.Issue(t, "spiffe://dc1.example/agent/victim")
	got, err := verifyClient(src, chainOf(t, ca.Issue(t, agentID, certstest.Append(victim.Leaf))))
	if err != nil || got.ID.String() != agentID {
		t.Errorf("got %s, %v", got.ID, err)
	}
}

// H06
func TestSelfSignedLeafBeforeAValidChainIsRefused(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	valid := ca.Issue(t, agentID)
	forged := ca.Issue(t, agentID, certstest.SelfSigned(), certstest.Append(valid.Leaf, ca.Certificate()))
	_, err := verifyClient(src, chainOf(t, forged))
	refused(t, err, certs.ReasonUntrusted)
}

// H02
func TestUnknownAuthorityIsRefusedAndNamedSafely(t *testing.T) {
	ca, stranger := certstest.NewCA(t, "dc1.example"), certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	_, err := verifyClient(src, chainOf(t, stranger.Issue(t, agentID)))
	refusal := refused(t, err, certs.ReasonUntrusted)
	if !strings.Contains(refusal.Claim, agentID) || !strings.Contains(refusal.Claim, "dc1.example root") {
		t.Errorf("claim: %s", refusal.Claim)
	}
	for _, pad := range []string{"", strings.Repeat("x", 3000)} {
		odd := stranger.Issue(t, agentID, certstest.SelfSigned(), certstest.Template(func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "evil\r\nlevel=ERROR \x1b[2J" + pad}
		}))
		_, err = verifyClient(src, chainOf(t, odd))
		if refusal := refused(t, err, certs.ReasonUntrusted); len(refusal.Error()) > 1500 {
			t.Errorf("text of %d bytes", len(refusal.Error()))
		}
	}
}

// H12
func TestTrustDomainSpeaksOnlyForItself(t *testing.T) {
	dc1, dc2 := certstest.NewCA(t, "dc1.example"), certstest.NewCA(t, "dc2.example")
	src := certstest.NewSource(tls.Certificate{}, dc1, dc2)
	_, err := verifyClient(src, chainOf(t, dc2.Issue(t, agentID))) // federated, but claims dc1's ID
	refused(t, err, certs.ReasonUntrusted)
	src.Distrust(dc1.TrustDomain())
	_, err = verifyClient(src, chainOf(t, dc1.Issue(t, agentID)))
	refused(t, err, certs.ReasonUnknownTrustDomain)
	if !errors.Is(err, certs.ErrUnknownTrustDomain) {
		t.Errorf("cause is not ErrUnknownTrustDomain: %v", err)
	}
}

// H07
func TestLeafThatIsNoWorkloadCertificateIsRefused(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyUsage := func(usage x509.KeyUsage) certstest.Option {
		return certstest.Template(func(c *x509.Certificate) { c.KeyUsage = usage })
	}
	for name, test := range map[string]struct {
		option certstest.Option
		want   certs.Reason
	}{
		"CA":                   {certstest.AsCA(), certs.ReasonNotLeaf},
		"CA without key usage": {certstest.Template(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, 0 }), certs.ReasonNotLeaf},
		"may sign":             {keyUsage(x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign), certs.ReasonNotLeaf},
		"may sign CRLs":        {keyUsage(x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign), certs.ReasonNotLeaf},
		"no digitalSignature":  {keyUsage(x509.KeyUsageKeyEncipherment), certs.ReasonWrongUsage},
		"server only":          {certstest.Usage(x509.ExtKeyUsageServerAuth), certs.ReasonWrongUsage},
		"RSA of 512 bits":      {certstest.PublicKey(oddRSA(512)), certs.ReasonBadKey},
		"RSA of 1,024 bits":    {certstest.PublicKey(oddRSA(1024)), certs.ReasonBadKey},
		"RSA of 16,384 bits":   {certstest.PublicKey(oddRSA(16384)), certs.ReasonBadKey},
		"P-224":                {certstest.PublicKey(&p224.PublicKey), certs.ReasonBadKey},
		"unknown critical ext": {critical(), certs.ReasonUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifyClient(src, chainOf(t, ca.Issue(t, agentID, test.option)))
			refused(t, err, test.want)
		})
	}
	for name, options := range map[string][]certstest.Option{
		"no extended key usage": {certstest.Usage()},
		"any":                   {certstest.Usage(x509.ExtKeyUsageAny)},
		"client only":           {certstest.Usage(x509.ExtKeyUsageClientAuth)},
		"RSA of 2,048 bits":     {certstest.RSA(2048)},
	} {
		if _, err := verifyClient(src, chainOf(t, ca.Issue(t, agentID, options...))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	leaf := *ca.Issue(t, agentID).Leaf // crypto/x509 reads DSA keys, and writes none
	leaf.PublicKeyAlgorithm, leaf.PublicKey = x509.DSA, &dsa.PublicKey{}
	_, err = verifyClient(src, []*x509.Certificate{&leaf})
	refused(t, err, certs.ReasonBadKey)
}

// A weak key above the leaf is refused as well.
func TestIntermediateWithABadKeyIsRefused(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	weak := ca.Issue(t, "spiffe://dc1.example/ca", certstest.AsCA(), certstest.PublicKey(oddRSA(1024)))
	_, err := verifyClient(certstest.NewSource(weak, ca), chainOf(t, ca.Issue(t, agentID, certstest.Append(weak.Leaf))))
	refused(t, err, certs.ReasonBadKey)
}

func TestChainBeyondItsBoundsIsRefused(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	src := certstest.NewSource(tls.Certificate{}, ca)
	sub := ca.Intermediate(t).Intermediate(t).Intermediate(t)
	if _, err := verifyClient(src, chainOf(t, sub.Issue(t, agentID))); err != nil {
		t.Errorf("four certificates: %v", err)
	}
	_, err := verifyClient(src, chainOf(t, sub.Intermediate(t).Issue(t, agentID)))
	refused(t, err, certs.ReasonChainTooLarge)
	fat := ca.Issue(t, agentID, certstest.DNS(strings.Repeat("a.", 120)+"example"), certstest.Template(func(c *x509.Certificate) {
		for range 80 {
			c.DNSNames = append(c.DNSNames, c.DNSNames[0])
		}
	}))
	_, err = verifyClient(src, chainOf(t, fat))
	refused(t, err, certs.ReasonChainTooLarge)
	_, err = verifyClient(src, nil)
	refused(t, err, certs.ReasonNoCertificate)
}

// x509 takes the system's roots for a nil pool: a source that returns one must not let the web's CAs in.
func TestSourceWithoutAPoolTrustsNobody(t *testing.T) {
	ca := certstest.NewCA(t, "dc1.example")
	_, err := verifyClient(poolless{certstest.NewSource(tls.Certificate{}, ca)}, chainOf(t, ca.Issue(t, agentID)))
	refused(t, err, certs.ReasonUnknownTrustDomain)
}

type poolless struct{ *certstest.Source }

func (poolless) Roots(certs.TrustDomain) (*x509.CertPool, error) { return nil, nil }

// oddRSA returns a public key of that many bits that nobody has the private half of.
func oddRSA(bits int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

func critical() certstest.Option {
	return certstest.Template(func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
	})
}
