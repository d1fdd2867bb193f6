package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/youmark/pkcs8"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/secretfile"
)

// A Folder is an authority on disk. Commands change it while a server reads it: every file is replaced as a whole.
//
//	authority.json      trust domain, times, certificates
//	issuer-<hash>.key   the issuing key
//	root-<hash>.key     a root's key, which belongs offline
//	tokens/<number>     tokens that were not used yet
//	bans/<hash>         one ban each
type Folder struct {
	dir        string
	passphrase []byte
}

const settingsFile = "authority.json"

// NewFolder does not look at the folder. A passphrase encrypts keys that are made, and is needed for those that were made with
// one (PKCS #8, PBES2 with PBKDF2 and AES-256); nil: keys are protected by the files' modes alone.
func NewFolder(dir string, passphrase []byte) *Folder { return &Folder{dir, passphrase} }

func (f *Folder) file(name ...string) string {
	return filepath.Join(append([]string{f.dir}, name...)...)
}

// settings are authority.json, parsed. As a certs.Source they have the authority's own roots alone.
type settings struct {
	td       certs.TrustDomain
	life     time.Duration // of an SVID
	refresh  time.Duration // of the bundle
	sequence uint64        // of the bundle
	roots    []root
	issuer   *x509.Certificate
	pool     *x509.CertPool
}

// RootState is where a root is in its life: the next one is only believed, the current one signs issuers, an old one is
// believed as long as what was issued under it lives.
type RootState string

// The states.
const (
	NextRoot    RootState = "next"
	CurrentRoot RootState = "current"
	OldRoot     RootState = "old"
)

type root struct {
	cert  *x509.Certificate
	state RootState
	since time.Time // of the state
}

type savedSettings struct {
	TrustDomain string      `json:"trust_domain"`
	SVIDLife    string      `json:"svid_life"`
	RefreshHint string      `json:"refresh_hint"`
	Sequence    uint64      `json:"sequence"`
	Roots       []savedRoot `json:"roots"`
	Issuer      []byte      `json:"issuer"` // DER
}

type savedRoot struct {
	Certificate []byte    `json:"certificate"` // DER
	State       RootState `json:"state"`
	Since       time.Time `json:"since"`
}

func parseSettings(raw []byte) (*settings, error) {
	var saved savedSettings
	if err := json.Unmarshal(raw, &saved); err != nil {
		return nil, fmt.Errorf("%s: %w", settingsFile, err)
	}
	s := &settings{sequence: saved.Sequence, pool: x509.NewCertPool()}
	var errs [4]error
	s.td, errs[0] = certs.ParseTrustDomain(saved.TrustDomain)
	s.life, errs[1] = time.ParseDuration(saved.SVIDLife)
	s.refresh, errs[2] = time.ParseDuration(saved.RefreshHint)
	s.issuer, errs[3] = x509.ParseCertificate(saved.Issuer)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("%s: %w", settingsFile, err)
	}
	for _, r := range saved.Roots {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", settingsFile, err)
		}
		s.roots = append(s.roots, root{c, r.State, r.Since})
		s.pool.AddCert(c)
	}
	return s, nil
}

func (f *Folder) read() (*settings, error) {
	raw, err := os.ReadFile(f.file(settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no authority in %s: expected %s, which `authority init` makes", f.dir, settingsFile)
	}
	if err != nil {
		return nil, err
	}
	return parseSettings(raw)
}

func (f *Folder) write(s *settings) error {
	saved := savedSettings{TrustDomain: s.td.Name(), SVIDLife: s.life.String(), RefreshHint: s.refresh.String(), Sequence: s.sequence,
		Issuer: s.issuer.Raw}
	for _, r := range s.roots {
		saved.Roots = append(saved.Roots, savedRoot{r.cert.Raw, r.state, r.since})
	}
	raw, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return err
	}
	return secretfile.Write(f.file(settingsFile), raw)
}

func (s *settings) root(state RootState) *root {
	for i := range s.roots {
		if s.roots[i].state == state {
			return &s.roots[i]
		}
	}
	return nil
}

// bundle is what others believe of this trust domain, in SPIFFE's format.
func (s *settings) bundle() ([]byte, error) {
	b := spiffebundle.New(s.td)
	for _, r := range s.roots {
		b.AddX509Authority(r.cert)
	}
	b.SetRefreshHint(s.refresh)
	b.SetSequenceNumber(s.sequence)
	return b.Marshal()
}

// Bundle is what others believe of the trust domain: in SPIFFE's format, or as CA certificates in PEM.
func (f *Folder) Bundle(asPEM bool) ([]byte, error) {
	s, err := f.read()
	if err != nil {
		return nil, err
	}
	if !asPEM {
		return s.bundle()
	}
	var text []byte
	for _, r := range s.roots {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})...)
	}
	return text, nil
}

// Fingerprint is a root's: SHA-256 of its certificate.
func Fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }

func keyFile(kind string, c *x509.Certificate) string {
	sum := Fingerprint(c)
	return fmt.Sprintf("%s-%x.key", kind, sum[:6])
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// kdf is OWASP's figure of 2023 for PBKDF2 with HMAC-SHA-256.
var kdf = pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 600_000, HMACHash: crypto.SHA256}

func (f *Folder) writeKey(name string, key *ecdsa.PrivateKey) error {
	block := &pem.Block{Type: "PRIVATE KEY"}
	opts := &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: kdf}
	if f.passphrase != nil {
		block.Type = "ENCRYPTED PRIVATE KEY"
	}
	var err error
	if block.Bytes, err = pkcs8.MarshalPrivateKey(key, f.passphrase, opts); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return secretfile.Write(f.file(name), pem.EncodeToMemory(block))
}

const maxKeyFile = 64 << 10

func (f *Folder) readKey(name string) (crypto.Signer, error) {
	text, err := secretfile.Read(f.file(name), maxKeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: a key in PEM is expected", f.file(name))
	}
	passphrase := f.passphrase
	if block.Type != "ENCRYPTED PRIVATE KEY" {
		passphrase = nil
	} else if passphrase == nil {
		return nil, fmt.Errorf("%s: the key is encrypted, a passphrase file is expected", f.file(name))
	}
	key, err := pkcs8.ParsePKCS8PrivateKeyECDSA(block.Bytes, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: the key does not open: wrong passphrase, or no ECDSA key in PKCS #8", f.file(name)) // the cause may hold parts of it
	}
	return key, nil
}

// Options are Init's.
type Options struct {
	TrustDomain certs.TrustDomain
	SVIDLife    time.Duration // zero: 24 h
	RefreshHint time.Duration // how often others fetch the bundle; zero: 5 min
}

// Init makes a new authority in a folder that has none. The root's key is then taken offline; it is needed again for a new
// issuer.
func (f *Folder) Init(o Options) error {
	if o.SVIDLife == 0 {
		o.SVIDLife = 24 * time.Hour
	}
	if o.RefreshHint == 0 {
		o.RefreshHint = 5 * time.Minute
	}
	if _, err := os.Stat(f.file(settingsFile)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: expected a folder without an authority", f.dir)
	}
	for _, dir := range []string{f.dir, f.file("tokens"), f.file("bans")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	s := &settings{td: o.TrustDomain, life: o.SVIDLife, refresh: o.RefreshHint, sequence: 1}
	r, err := f.newRoot(s.td)
	if err != nil {
		return err
	}
	r.state = CurrentRoot
	s.roots = []root{*r}
	return f.newIssuer(s)
}

func (f *Folder) newRoot(td certs.TrustDomain) (*root, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert, err := newCA(td, key, nil, nil, now)
	if err != nil {
		return nil, err
	}
	return &root{cert: cert, state: NextRoot, since: now.UTC()}, f.writeKey(keyFile("root", cert), key)
}

// newIssuer makes an issuing key under the current root, and the settings count from then on.
func (f *Folder) newIssuer(s *settings) error {
	current := s.root(CurrentRoot)
	rootKey, err := f.readKey(keyFile("root", current.cert))
	if err == nil {
		err = sameKey(rootKey, current.cert)
	}
	if err != nil {
		return fmt.Errorf("the root's key is expected in the authority's folder for this: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	if s.issuer, err = newCA(s.td, key, rootKey, current.cert, time.Now()); err != nil {
		return err
	}
	if err := f.writeKey(keyFile("issuer", s.issuer), key); err != nil {
		return err
	}
	return f.write(s)
}

// NewIssuer replaces the issuing key. The root's key is expected in the folder.
func (f *Folder) NewIssuer() error {
	s, err := f.read()
	if err != nil {
		return err
	}
	return f.newIssuer(s)
}

// Prepare adds a next root to the bundle.
func (f *Folder) Prepare() error {
	s, err := f.read()
	if err != nil {
		return err
	}
	if s.root(NextRoot) != nil {
		return errors.New("a next root is there already: activate it first")
	}
	r, err := f.newRoot(s.td)
	if err != nil {
		return err
	}
	s.roots = append(s.roots, *r)
	s.sequence++
	return f.write(s)
}

// Activate makes the next root the current one and issues under it. Unless forced it refuses for as long as others may not
// have fetched the bundle that Prepare has made: two refresh hints.
func (f *Folder) Activate(force bool) error {
	s, err := f.read()
	if err != nil {
		return err
	}
	next, current := s.root(NextRoot), s.root(CurrentRoot)
	if next == nil {
		return errors.New("no next root is there: prepare one first")
	}
	if err := waited(next.since, 2*s.refresh, force, "everybody may have fetched the next root"); err != nil {
		return err
	}
	now := time.Now().UTC()
	current.state, current.since = OldRoot, now
	next.state, next.since = CurrentRoot, now
	return f.newIssuer(s)
}

// Retire takes old roots out of the bundle. Unless forced it refuses for as long as an SVID under one may live.
func (f *Folder) Retire(force bool) error {
	s, err := f.read()
	if err != nil {
		return err
	}
	var kept []root
	for _, r := range s.roots {
		if r.state != OldRoot {
			kept = append(kept, r)
		} else if err := waited(r.since, s.life, force, "what was issued under the old root has expired"); err != nil {
			return err
		}
	}
	if len(kept) == len(s.roots) {
		return errors.New("no old root is there")
	}
	s.roots = kept
	s.sequence++
	return f.write(s)
}

func waited(since time.Time, wait time.Duration, force bool, until string) error {
	if left := time.Until(since.Add(wait)); left > 0 && !force {
		return fmt.Errorf("too early: in %s %s (--force does it all the same)", left.Round(time.Second), until)
	}
	return nil
}

// A RootStatus is for people.
type RootStatus struct {
	State       RootState `json:"state"`
	Since       time.Time `json:"since"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"`
	Key         string    `json:"key"` // its file
	KeyHere     bool      `json:"key_here"`
}

// Roots tells of every root.
func (f *Folder) Roots() ([]RootStatus, error) {
	s, err := f.read()
	if err != nil {
		return nil, err
	}
	var all []RootStatus
	for _, r := range s.roots {
		sum := Fingerprint(r.cert)
		key := f.file(keyFile("root", r.cert))
		_, missing := os.Stat(key)
		all = append(all, RootStatus{r.state, r.since, r.cert.NotAfter, fmt.Sprintf("%x", sum), key, missing == nil})
	}
	return all, nil
}

// TrustDomain is the authority's.
func (f *Folder) TrustDomain() (certs.TrustDomain, error) {
	s, err := f.read()
	if err != nil {
		return certs.TrustDomain{}, err
	}
	return s.td, nil
}

// ReadPassphrase reads a passphrase's file: its first line counts.
func ReadPassphrase(path string) ([]byte, error) {
	b, err := secretfile.Read(path, 4<<10)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return nil, fmt.Errorf("%s: a passphrase is expected in the first line", path)
	}
	return line, nil
}
