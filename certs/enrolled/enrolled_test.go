package enrolled_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/enrolled"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is an authority, and an agent's folder that it has filled.
type rig struct {
	folder *authority.Folder
	ca     *authority.Authority
	id     certs.ID
	dir    string
	asked  atomic.Int64
	away   atomic.Bool
	log    log
}

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

func newRig(t *testing.T, life time.Duration) *rig {
	t.Helper()
	r := &rig{folder: authority.NewFolder(filepath.Join(t.TempDir(), "ca"), nil), dir: filepath.Join(t.TempDir(), "state")}
	var err error
	if r.id, err = certs.ParseID("spiffe://dc1.example/agent/a"); err != nil {
		t.Fatal(err)
	}
	if err := r.folder.Init(authority.Options{TrustDomain: r.id.TrustDomain(), SVIDLife: life, RefreshHint: time.Second}); err != nil {
		t.Fatal(err)
	}
	if r.ca, err = authority.Open(r.folder, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r.enrol(t)
	return r
}

var errAway = errors.New("the authority is away")

func (r *rig) ask(ctx context.Context, request []byte) ([]byte, error) {
	r.asked.Add(1)
	if r.away.Load() {
		return nil, errAway
	}
	return r.ca.Answer(ctx, request), nil
}

func (r *rig) enrol(t *testing.T) {
	t.Helper()
	token, err := r.folder.NewToken(r.id, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	i, err := authority.Bootstrap(t.Context(), func(ctx context.Context, request []byte) ([]byte, error) { return r.ca.Answer(ctx, request), nil }, token, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := enrolled.Write(r.dir, i); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) open(t *testing.T) *enrolled.Source {
	t.Helper()
	s, err := enrolled.Open(enrolled.Config{Dir: r.dir, Ask: r.ask, Log: slog.New(slog.NewTextHandler(&r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func leaf(t *testing.T, s *enrolled.Source) *x509.Certificate {
	t.Helper()
	c, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after a minute", what)
		}
	}
}

func TestAnSVIDIsRenewedBeforeItEnds(t *testing.T) {
	r := newRig(t, 6*time.Second)
	s := r.open(t)
	for range 3 {
		before, generation := leaf(t, s), s.Generation()
		eventually(t, "renewed", func() bool { return !leaf(t, s).Equal(before) })
		if left := time.Until(before.NotAfter); left <= 0 {
			t.Errorf("renewed %s too late", -left)
		}
		if s.Generation() <= generation {
			t.Error("the generation did not grow")
		}
		if _, err := certs.Verify(s, []*x509.Certificate{leaf(t, s)}, x509.ExtKeyUsageClientAuth, time.Now()); err == nil {
			t.Error("an SVID verified without its issuer's certificate") // the rest of the chain counts
		}
	}
	if again, err := enrolled.Open(enrolled.Config{Dir: r.dir}); err != nil || !leaf(t, again).Equal(leaf(t, s)) {
		t.Errorf("a restart finds another SVID: %v", err)
	}
	for _, name := range []string{"identity.pem", "bundle.json"} { // O01
		if info, err := os.Stat(filepath.Join(r.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestANextRootIsBelievedBeforeAnythingIsIssuedUnderIt(t *testing.T) {
	r := newRig(t, time.Hour)
	s := r.open(t)
	old := leaf(t, s)
	if err := r.folder.Prepare(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bundle has both roots", func() bool { return len(s.Bundle().X509Authorities()) == 2 })
	if !leaf(t, s).Equal(old) {
		t.Error("a new bundle has had the SVID renewed")
	}
}

func TestBansAreHeardOfAndKept(t *testing.T) {
	r := newRig(t, time.Hour)
	s := r.open(t)
	if _, err := r.folder.Ban("spiffe://dc1.example/relay/b", ""); err != nil {
		t.Fatal(err)
	}
	banned, err := certs.ParseID("spiffe://dc1.example/relay/b")
	if err != nil {
		t.Fatal(err)
	}
	generation := s.Generation()
	s.Refresh()
	eventually(t, "banned", func() bool { return s.Banned(certs.Identity{ID: banned}) != nil && s.Generation() > generation })
	if s.Banned(certs.Identity{ID: r.id}) != nil {
		t.Error("somebody else is banned")
	}
	if again, err := enrolled.Open(enrolled.Config{Dir: r.dir}); err != nil || again.Banned(certs.Identity{ID: banned}) == nil {
		t.Errorf("forgotten after a restart: %v", err)
	}
	if err := r.folder.Unban("spiffe://dc1.example/relay/b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ban is lifted", func() bool { return s.Banned(certs.Identity{ID: banned}) == nil })
}

func TestWhileTheAuthorityIsAwayTheSVIDServesOn(t *testing.T) {
	r := newRig(t, 4*time.Second)
	r.away.Store(true)
	s := r.open(t)
	before := leaf(t, s)
	time.Sleep(time.Until(before.NotAfter) + 1500*time.Millisecond)
	if !leaf(t, s).Equal(before) {
		t.Error("another SVID")
	}
	if n := r.log.count("the authority is away"); n < 1 || n > 2 { // once, and once more when it has expired
		t.Errorf("%d lines:\n%s", n, r.log.buf.String())
	}
	eventually(t, "it is said what to do", func() bool { return r.log.count("enrol again with a new token") > 0 })
	if _, err := enrolled.Open(enrolled.Config{Dir: r.dir}); !errors.Is(err, enrolled.ErrExpired) {
		t.Errorf("opened with an SVID that has expired: %v", err)
	}
	r.away.Store(false)
	r.enrol(t)
	eventually(t, "a new enrolment is taken over", func() bool { return leaf(t, s).NotAfter.After(time.Now()) })
}

func TestAnotherIdentityTakesARestart(t *testing.T) {
	r := newRig(t, time.Hour)
	s := r.open(t)
	before := s.ID()
	var err error
	if r.id, err = certs.ParseID("spiffe://dc1.example/agent/b"); err != nil {
		t.Fatal(err)
	}
	r.enrol(t)
	eventually(t, "it is said", func() bool { return r.log.count("takes a restart") > 0 })
	if s.ID() != before {
		t.Errorf("the identity became %s", s.ID())
	}
}

func TestWhatIsNoIdentityIsRefusedWithoutItsKey(t *testing.T) { // O07
	r := newRig(t, time.Hour)
	path := filepath.Join(r.dir, "identity.pem")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Split(text[bytes.Index(text, []byte("PRIVATE KEY-----\n")):], []byte("\n"))[1]
	for name, bad := range map[string][]byte{"cut": text[:len(text)-60], "empty": nil, "key alone": text[bytes.Index(text, []byte("-----BEGIN PRIVATE")):]} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := enrolled.Open(enrolled.Config{Dir: r.dir}); err == nil || strings.Contains(err.Error(), string(key[:16])) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := enrolled.Open(enrolled.Config{Dir: r.dir}); err == nil {
		t.Error("a key that all can read was taken")
	}
}
