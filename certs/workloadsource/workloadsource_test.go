package workloadsource_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/workloadsource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const relayID = "spiffe://cloud.example/relay/a"

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

func (l *log) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

type rig struct {
	*workloadsource.Source
	api       *certstest.WorkloadAPI
	cloud, dc *certstest.CA
	log       *log
}

// start opens a source whose API serves relayID and nothing federated, and follows it until the test ends.
func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{api: certstest.NewWorkloadAPI(t), cloud: certstest.NewCA(t, "cloud.example"), dc: certstest.NewCA(t, "dc1.example"), log: new(log)}
	r.api.Serve(r.cloud, relayID, nil)
	var err error
	r.Source, err = workloadsource.Open(t.Context(), workloadsource.Config{Address: r.api.Address, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after a minute", what)
		}
	}
}

func (r *rig) trusts(td certs.TrustDomain) bool {
	pool, err := r.Roots(td)
	if err != nil && !errors.Is(err, certs.ErrUnknownTrustDomain) {
		panic(err)
	}
	return pool != nil
}

func serial(t *testing.T, s certs.Source) string {
	t.Helper()
	cert, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.String()
}

func TestWhatTheAPISaysIsTakenOverAsItChanges(t *testing.T) {
	r := start(t)
	if r.ID().String() != relayID || !r.trusts(r.cloud.TrustDomain()) || r.trusts(r.dc.TrustDomain()) {
		t.Fatalf("began as %s", r.ID())
	}
	generation, first := r.Generation(), serial(t, r)
	grown := func() bool { g := r.Generation(); defer func() { generation = g }(); return g > generation }

	r.api.Serve(r.cloud, relayID, nil) // a newer SVID
	eventually(t, "the newer SVID is there", func() bool { return serial(t, r) != first })
	if !grown() {
		t.Error("the generation did not grow with the SVID")
	}
	r.api.Serve(r.cloud, relayID, []*certstest.CA{r.dc})
	eventually(t, "the federated bundle is there", func() bool { return r.trusts(r.dc.TrustDomain()) })
	if !grown() {
		t.Error("the generation did not grow with the bundle")
	}
	if all := r.Expiries(); len(all) != 3 {
		t.Errorf("expiries %v, expected those of an SVID and two bundles", all)
	}
	r.api.Serve(r.cloud, relayID, nil)
	eventually(t, "the federated bundle is gone", func() bool { return !r.trusts(r.dc.TrustDomain()) })
	if !grown() {
		t.Error("the generation did not grow with the bundle's end")
	}
}

func TestTheLastIdentityServesOnWhileTheAPIIsAwayOrWrong(t *testing.T) {
	r := start(t)
	first := serial(t, r)
	stranger := certstest.NewCA(t, "cloud.example")
	for name, fail := range map[string]func(){
		"refuses":               r.api.Refuse,
		"shows an expired SVID": func() { r.api.Serve(r.cloud, relayID, nil, certstest.NotAfter(time.Now().Add(-time.Minute))) },
		"shows no SPIFFE ID": func() {
			r.api.Serve(r.cloud, relayID, nil, certstest.URIs("spiffe://cloud.example/a", "spiffe://cloud.example/b"))
		},
		"is down": r.api.Stop,
	} {
		before := r.log.count("the last one stays")
		fail()
		eventually(t, name+": said", func() bool { return r.log.count("the last one stays") > before })
		if serial(t, r) != first || !r.trusts(r.cloud.TrustDomain()) {
			t.Errorf("%s: the identity changed", name)
		}
		again := r.log.count("answers again")
		if name == "is down" {
			r.api.Start()
		}
		r.api.Serve(stranger, relayID, nil) // all of it new
		eventually(t, name+": over", func() bool { return serial(t, r) != first && r.log.count("answers again") > again })
		first = serial(t, r)
	}
}

func TestAnAPIThatIsNotThereYetIsWaitedFor(t *testing.T) {
	api, cloud := certstest.NewWorkloadAPI(t), certstest.NewCA(t, "cloud.example")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := workloadsource.Open(ctx, workloadsource.Config{Address: api.Address})
	if err == nil || !strings.Contains(err.Error(), "no identity issued") || !strings.Contains(err.Error(), api.Address) {
		t.Errorf("got %v, expected what was wrong and where", err)
	}
	api.Stop()
	opened := make(chan error, 1)
	go func() {
		_, err := workloadsource.Open(t.Context(), workloadsource.Config{Address: api.Address})
		opened <- err
	}()
	time.Sleep(300 * time.Millisecond) // for some attempts to fail
	api.Start()
	api.Serve(cloud, relayID, nil)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestOnlyALocalSocketIsAnAddress(t *testing.T) {
	for _, s := range []string{"", "/run/spire/agent.sock", "tcp://127.0.0.1:8081", "https://api", "unix:api"} {
		if _, err := workloadsource.Open(t.Context(), workloadsource.Config{Address: s}); err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestKeysForJWTSVIDsAreFollowedWhereTheyAreWanted(t *testing.T) {
	api, cloud := certstest.NewWorkloadAPI(t), certstest.NewCA(t, "cloud.example")
	first := certstest.NewIssuer(t, "spiffe://cloud.example")
	api.Serve(cloud, relayID, nil)
	api.ServeJWT(cloud, first)
	open := func(jwt bool) *workloadsource.Source {
		s, err := workloadsource.Open(t.Context(), workloadsource.Config{Address: api.Address, JWT: jwt})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, err := open(false).JWTBundle(cloud.TrustDomain()); !errors.Is(err, certs.ErrUnknownTrustDomain) {
		t.Errorf("unasked: %v", err)
	}
	s := open(true)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { stop(); <-ended }()
	has := func(kid string) bool {
		b, err := s.JWTBundle(cloud.TrustDomain())
		return err == nil && strings.Contains(string(b), kid)
	}
	if !has(first.Kid()) {
		t.Error("the first keys are not there")
	}
	first.Rotate(t, false)
	api.ServeJWT(cloud, first)
	eventually(t, "the new key is there", func() bool { return has(first.Kid()) })
	if _, err := s.JWTBundle(certstest.NewCA(t, "dc1.example").TrustDomain()); !errors.Is(err, certs.ErrUnknownTrustDomain) {
		t.Errorf("another trust domain: %v", err)
	}
}
