package pemsource_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/certs/pemsource"
	"github.com/fairlead/fairlead/certs/secretfile"
)

const relayID = "spiffe://cloud.example/relay/a"

// files is a folder with what a relay reads.
type files struct {
	dir    string
	ca     *certstest.CA
	config pemsource.Config
}

func newFiles(t *testing.T) *files {
	t.Helper()
	f := &files{dir: t.TempDir(), ca: certstest.NewCA(t, "cloud.example")}
	f.config.CertFile, f.config.KeyFile = certstest.WriteCertificate(t, f.dir, "relay", f.ca.Issue(t, relayID))
	f.config.Bundles = map[certs.TrustDomain]string{
		f.ca.TrustDomain(): certstest.WriteBundle(t, f.dir, "cloud", f.ca),
	}
	return f
}

func (f *files) open(t *testing.T) *pemsource.Source {
	t.Helper()
	s, err := pemsource.New(f.config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serial(t *testing.T, s *pemsource.Source) string {
	t.Helper()
	cert, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.String()
}

func TestNewCertificateIsTakenAndTheGenerationGrows(t *testing.T) {
	f := newFiles(t)
	s := f.open(t)
	before, generation := serial(t, s), s.Generation()
	if err := s.Reload(); err != nil || s.Generation() != generation {
		t.Fatalf("files that stayed the same: %v, generation %d after %d", err, s.Generation(), generation)
	}
	certstest.WriteCertificate(t, f.dir, "relay", f.ca.Issue(t, "spiffe://cloud.example/relay/b"))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if serial(t, s) == before || s.ID().String() != "spiffe://cloud.example/relay/b" || s.Generation() <= generation {
		t.Errorf("got %s, generation %d", s.ID(), s.Generation())
	}
}

func TestBundleThatChangesIsTaken(t *testing.T) {
	f := newFiles(t)
	other := certstest.NewCA(t, "dc1.example")
	f.config.Bundles[other.TrustDomain()] = certstest.WriteBundle(t, f.dir, "dc1", other)
	s := f.open(t)
	before, err := s.Roots(other.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	certstest.WriteBundle(t, f.dir, "dc1", certstest.NewCA(t, "dc1.example"))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if after, err := s.Roots(other.TrustDomain()); err != nil || after.Equal(before) || s.Generation() != 2 {
		t.Errorf("the old bundle stays: %v, generation %d", err, s.Generation())
	}
	if _, err := s.Roots(certstest.NewCA(t, "evil.example").TrustDomain()); !errors.Is(err, certs.ErrUnknownTrustDomain) {
		t.Errorf("a trust domain without bundle: %v", err)
	}
}

func TestBrokenFilesKeepTheOldIdentity(t *testing.T) {
	stranger := certstest.NewCA(t, "cloud.example")
	for name, breakIt := range map[string]func(t *testing.T, f *files){
		"certificate gone":  func(t *testing.T, f *files) { must(t, os.Remove(f.config.CertFile)) },
		"certificate empty": func(t *testing.T, f *files) { write(t, f.config.CertFile, "") },
		"key of another":    func(t *testing.T, f *files) { swapKey(t, f) },
		"key open to all":   func(t *testing.T, f *files) { must(t, os.Chmod(f.config.KeyFile, 0o644)) },
		"expired":           func(t *testing.T, f *files) { f.issue(t, certstest.NotAfter(time.Now().Add(-time.Second))) },
		"of another CA":     func(t *testing.T, f *files) { f.ca = stranger; f.issue(t) },
		"without SPIFFE ID": func(t *testing.T, f *files) { f.issue(t, certstest.URIs()) },
		"bundle is garbage": func(t *testing.T, f *files) { write(t, f.bundle(), "<html>") },
		"bundle is a leaf":  func(t *testing.T, f *files) { f.copy(t, f.config.CertFile, f.bundle()) },
		"bundle is a key":   func(t *testing.T, f *files) { f.copy(t, f.config.KeyFile, f.bundle()) },
		"bundle cut short":  func(t *testing.T, f *files) { f.cut(t) },
		"bundle of a giant": func(t *testing.T, f *files) {
			write(t, f.bundle(), string(f.ca.BundlePEM())+strings.Repeat("\n", 1<<20))
		},
		"key is a directory": func(t *testing.T, f *files) {
			must(t, os.Remove(f.config.KeyFile))
			must(t, os.Mkdir(f.config.KeyFile, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			s := f.open(t)
			before := serial(t, s)
			breakIt(t, f)
			if err := s.Reload(); err == nil || strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("reload: %v", err)
			}
			if serial(t, s) != before || s.Generation() != 1 || s.ID().String() != relayID {
				t.Errorf("the old identity did not stay whole: %s, generation %d", s.ID(), s.Generation())
			}
			if _, err := s.Roots(f.ca.TrustDomain()); err != nil {
				t.Errorf("the old bundle did not stay: %v", err)
			}
			if _, err := pemsource.New(f.config); err == nil {
				t.Error("a new process takes the broken files")
			}
		})
	}
}

func TestKeyThatOthersReadIsNamedWithItsMode(t *testing.T) {
	f := newFiles(t)
	must(t, os.Chmod(f.config.KeyFile, 0o644))
	_, err := pemsource.New(f.config)
	if _, ok := errors.AsType[*secretfile.AccessError](err); !ok ||
		!strings.Contains(err.Error(), f.config.KeyFile) || !strings.Contains(err.Error(), "0644") {
		t.Errorf("got %v", err)
	}
}

func TestAgentWithoutItsOwnBundleStarts(t *testing.T) {
	f := newFiles(t)
	f.config.Bundles = nil
	if s := f.open(t); s.ID().String() != relayID {
		t.Errorf("got %s", s.ID())
	}
	f.issue(t, certstest.NotAfter(time.Now().Add(-time.Second)))
	if _, err := pemsource.New(f.config); err == nil {
		t.Error("and takes an expired certificate")
	}
}

// Kubernetes keeps the files of a secret in a folder of their own and swaps the link to it.
func TestSymlinkSwapIsFollowed(t *testing.T) {
	f := newFiles(t)
	mount := t.TempDir()
	place := func(generation string, id string) {
		dir := filepath.Join(mount, generation)
		must(t, os.Mkdir(dir, 0o700))
		certstest.WriteCertificate(t, dir, "tls", f.ca.Issue(t, id))
		must(t, os.Symlink(generation, filepath.Join(mount, "..tmp")))
		must(t, os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")))
	}
	place("..1", relayID)
	for _, name := range []string{"tls.crt", "tls.key"} {
		must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)))
	}
	f.config.CertFile, f.config.KeyFile = filepath.Join(mount, "tls.crt"), filepath.Join(mount, "tls.key")
	s := f.open(t)
	place("..2", "spiffe://cloud.example/relay/b")
	if err := s.Reload(); err != nil || s.ID().String() != "spiffe://cloud.example/relay/b" {
		t.Errorf("got %s, %v", s.ID(), err)
	}
}

func TestRunFollowsTheFilesAndSaysEachFaultOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFiles(t)
		var log buffer
		f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		s := f.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		polls := func() { time.Sleep(20 * time.Second); synctest.Wait() } // virtual: ten polls

		write(t, f.config.CertFile, "garbage")
		polls()
		if n := log.count("level=WARN"); n != 1 {
			t.Errorf("one fault was said %d times:\n%s", n, log.text())
		}
		write(t, f.config.KeyFile, "other garbage")
		must(t, os.Remove(f.config.CertFile))
		polls()
		if n := log.count("level=WARN"); n != 2 {
			t.Errorf("two faults were said %d times:\n%s", n, log.text())
		}
		if s.Generation() != 1 {
			t.Errorf("generation %d after faults only", s.Generation())
		}
		f.issue(t)
		polls()
		if s.Generation() != 2 || log.count("identity reloaded") != 1 {
			t.Errorf("generation %d:\n%s", s.Generation(), log.text())
		}
		cancel()
		running.Wait()
	})
}

func (f *files) issue(t *testing.T, options ...certstest.Option) {
	t.Helper()
	certstest.WriteCertificate(t, f.dir, "relay", f.ca.Issue(t, relayID, options...))
}

func (f *files) bundle() string { return filepath.Join(f.dir, "cloud.pem") }

func (f *files) copy(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	write(t, to, string(b))
}

func (f *files) cut(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(f.bundle())
	must(t, err)
	write(t, f.bundle(), string(b)+string(b[:len(b)/2]))
}

func swapKey(t *testing.T, f *files) {
	t.Helper()
	_, other := certstest.WriteCertificate(t, t.TempDir(), "other", f.ca.Issue(t, relayID))
	f.copy(t, other, f.config.KeyFile)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) count(s string) int { return strings.Count(b.text(), s) }
