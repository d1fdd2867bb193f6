package federation_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/federation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const endpointID = "spiffe://partner.example/spire/server"

// log is a log that is read while it is written.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), s)
}

// endpoint is a bundle endpoint, which a test changes while it serves.
type endpoint struct {
	*httptest.Server
	answer atomic.Pointer[func(http.ResponseWriter)]
	cert   atomic.Pointer[tls.Certificate] // nil: httptest's own
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := new(endpoint)
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { (*e.answer.Load())(w) }))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	e.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if c := e.cert.Load(); c != nil {
			return &tls.Config{Certificates: []tls.Certificate{*c}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}, nil // as a relay does
		}
		return nil, nil
	}}
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

// say serves a bundle of the CAs' trust domain with that sequence number.
func (e *endpoint) say(t *testing.T, sequence uint64, cas ...*certstest.CA) {
	t.Helper()
	b := spiffebundle.New(cas[0].TrustDomain())
	for _, ca := range cas {
		b.AddX509Authority(ca.Root())
	}
	b.SetSequenceNumber(sequence)
	b.SetRefreshHint(time.Second) // below what is followed
	text, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	e.write(func(w http.ResponseWriter) { _, _ = w.Write(text) })
}

func (e *endpoint) write(f func(http.ResponseWriter)) { e.answer.Store(&f) }

// ca writes the roots of httptest's own certificate.
func (e *endpoint) ca(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, td certs.TrustDomain, e federation.Endpoint, dir string, out *log) (*federation.Bundles, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out == nil {
		out = new(log)
	}
	return federation.Open(ctx, federation.Config{Endpoints: map[certs.TrustDomain]federation.Endpoint{td: e}, Dir: dir, Log: slog.New(slog.NewTextHandler(out, nil))})
}

// believes reports whether an SVID of the CA verifies.
func believes(t *testing.T, b *federation.Bundles, ca *certstest.CA) bool {
	t.Helper()
	pool, err := b.Roots(ca.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	_, err = ca.Issue(t, "spiffe://"+ca.TrustDomain().Name()+"/a").Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

func TestABundleComesFromItsEndpointAndIsKept(t *testing.T) {
	partner, next := certstest.NewCA(t, "partner.example"), certstest.NewCA(t, "partner.example")
	dir := filepath.Join(t.TempDir(), "state", "bundles")
	for name, begin := range map[string]func(t *testing.T, e *endpoint) federation.Endpoint{
		"https_web": func(t *testing.T, e *endpoint) federation.Endpoint {
			return federation.Endpoint{URL: e.URL, Profile: federation.Web, CA: e.ca(t)}
		},
		"https_spiffe": func(t *testing.T, e *endpoint) federation.Endpoint {
			cert := partner.Issue(t, endpointID)
			e.cert.Store(&cert)
			id, err := certs.ParseID(endpointID)
			if err != nil {
				t.Fatal(err)
			}
			return federation.Endpoint{URL: e.URL, Profile: federation.SPIFFE, ID: id, Bootstrap: certstest.WriteBundle(t, t.TempDir(), "partner", partner)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(dir, name)
			e := newEndpoint(t)
			conf := begin(t, e)
			e.say(t, 2, partner, next)
			b, err := open(t, partner.TrustDomain(), conf, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !believes(t, b, next) || len(b.Expiries()) != 1 || b.Generation() == 0 {
				t.Error("the endpoint's bundle is not there")
			}
			if _, err := b.Roots(certstest.NewCA(t, "other.example").TrustDomain()); !errors.Is(err, certs.ErrUnknownTrustDomain) {
				t.Errorf("another trust domain: %v", err)
			}
			e.Close() // a start without a network
			out := new(log)
			if b, err = open(t, partner.TrustDomain(), conf, dir, out); err != nil {
				t.Fatal(err)
			}
			if !believes(t, b, next) || !out.has("the bundle at hand serves") {
				t.Error("what was kept does not serve")
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

func TestABundleIsFollowed(t *testing.T) {
	partner, next := certstest.NewCA(t, "partner.example"), certstest.NewCA(t, "partner.example")
	e, out := newEndpoint(t), new(log)
	e.say(t, 5, partner)
	b, err := open(t, partner.TrustDomain(), federation.Endpoint{URL: e.URL, Profile: federation.Web, CA: e.ca(t)}, t.TempDir(), out)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	generation := b.Generation()
	e.say(t, 4, next) // an older one, whoever serves it
	eventually(t, "the older bundle is refused, and said so", func() bool { return out.has("an older bundle") })
	if !believes(t, b, partner) || believes(t, b, next) || b.Generation() != generation {
		t.Error("the older bundle was taken")
	}
	e.say(t, 6, partner, next)
	eventually(t, "the newer bundle is there", func() bool { return b.Generation() > generation })
	if !believes(t, b, next) {
		t.Error("the newer bundle is not believed")
	}
	eventually(t, "the fault's end is said", func() bool { return out.has("answers again") })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after two minutes", what)
		}
	}
}

func TestWhatIsNoBundleIsRefused(t *testing.T) {
	partner := certstest.NewCA(t, "partner.example")
	leaf := partner.Issue(t, endpointID)
	for name, answer := range map[string]func(http.ResponseWriter){
		"a fault": func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"a redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(http.StatusFound)
		},
		"no JSON":    func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"no keys":    func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"keys": []}`)) },
		"no key set": func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{}`)) },
		"a leaf": func(w http.ResponseWriter) {
			_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]})
		},
		"a private key": func(w http.ResponseWriter) { _ = pem.Encode(w, &pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}) },
		"two megabytes": func(w http.ResponseWriter) { _, _ = w.Write(bytes.Repeat([]byte(" "), 2<<20)) },
	} {
		e := newEndpoint(t)
		e.write(answer)
		if _, err := open(t, partner.TrustDomain(), federation.Endpoint{URL: e.URL, Profile: federation.Web, CA: e.ca(t)}, t.TempDir(), nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestAnEndpointProvesItself(t *testing.T) {
	partner, stranger := certstest.NewCA(t, "partner.example"), certstest.NewCA(t, "partner.example")
	id, err := certs.ParseID(endpointID)
	if err != nil {
		t.Fatal(err)
	}
	e := newEndpoint(t)
	e.say(t, 9, stranger)
	conf := federation.Endpoint{URL: e.URL, Profile: federation.SPIFFE, ID: id, Bootstrap: certstest.WriteBundle(t, t.TempDir(), "partner", partner)}
	for name, cert := range map[string]tls.Certificate{
		"another root": stranger.Issue(t, endpointID), "another ID": partner.Issue(t, "spiffe://partner.example/agent/a"),
		"an expired SVID": partner.Issue(t, endpointID, certstest.NotAfter(time.Now().Add(-time.Minute))),
	} {
		e.cert.Store(&cert)
		b, err := open(t, partner.TrustDomain(), conf, t.TempDir(), nil) // there is one to begin with
		if err != nil {
			t.Fatal(err)
		}
		if !believes(t, b, partner) || believes(t, b, stranger) {
			t.Errorf("%s: its bundle was believed", name)
		}
	}
	e.cert.Store(nil)
	if _, err := open(t, partner.TrustDomain(), federation.Endpoint{URL: e.URL, Profile: federation.Web}, t.TempDir(), nil); err == nil {
		t.Error("a certificate that the Web PKI does not know was believed")
	}
}

func TestABrokenKeptBundleIsNoBundle(t *testing.T) {
	partner, dir, out := certstest.NewCA(t, "partner.example"), t.TempDir(), new(log)
	if err := os.WriteFile(filepath.Join(dir, "partner.example.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEndpoint(t)
	e.say(t, 1, partner)
	b, err := open(t, partner.TrustDomain(), federation.Endpoint{URL: e.URL, Profile: federation.Web, CA: e.ca(t)}, dir, out)
	if err != nil || !believes(t, b, partner) || !out.has("no good") {
		t.Errorf("got %v", err)
	}
}

func TestAnEndpointThatCannotWorkIsRefused(t *testing.T) {
	partner := certstest.NewCA(t, "partner.example").TrustDomain()
	own, err := certs.ParseID(endpointID)
	if err != nil {
		t.Fatal(err)
	}
	other, err := certs.ParseID("spiffe://other.example/a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		e    federation.Endpoint
		want string
	}{
		{federation.Endpoint{URL: "http://a.example", Profile: federation.Web}, "https"},
		{federation.Endpoint{URL: "https://u:p@a.example", Profile: federation.Web}, "https"},
		{federation.Endpoint{URL: "https://a.example"}, "profile"},
		{federation.Endpoint{URL: "https://a.example", Profile: "web"}, "profile"},
		{federation.Endpoint{URL: "https://a.example", Profile: federation.Web, ID: own}, "https_spiffe"},
		{federation.Endpoint{URL: "https://a.example", Profile: federation.SPIFFE, Bootstrap: "x"}, "endpoint_id"},
		{federation.Endpoint{URL: "https://a.example", Profile: federation.SPIFFE, ID: other, Bootstrap: "x"}, "endpoint_id"},
		{federation.Endpoint{URL: "https://a.example", Profile: federation.SPIFFE, ID: own}, "begin with"},
	} {
		if err := c.e.Check(partner); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, expected %q", c.e, err, c.want)
		}
	}
}
