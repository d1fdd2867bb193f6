package authority_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
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
	"github.com/fairlead/fairlead/certs/authority"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const agentID = "spiffe://dc1.example/agent/a"

// rig is an authority and what its folder's commands do.
type rig struct {
	*authority.Folder
	dir string
	ca  *authority.Authority
	td  certs.TrustDomain
}

func id(t *testing.T, s string) certs.ID {
	t.Helper()
	parsed, err := certs.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func newRig(t *testing.T, o authority.Options, passphrase []byte) *rig {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "authority")
	if o.TrustDomain.IsZero() {
		o.TrustDomain = id(t, agentID).TrustDomain()
	}
	f := authority.NewFolder(dir, passphrase)
	if err := f.Init(o); err != nil {
		t.Fatal(err)
	}
	ca, err := authority.Open(f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &rig{f, dir, ca, o.TrustDomain}
}

func (r *rig) ask(ctx context.Context, request []byte) ([]byte, error) {
	return r.ca.Answer(ctx, request), nil
}

func (r *rig) token(t *testing.T, spiffeID string) *authority.Token {
	t.Helper()
	token, err := r.NewToken(id(t, spiffeID), []string{"relay.dc1.example"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := authority.ParseToken(" " + token.Text() + "\n")
	if err != nil || *parsed != *token {
		t.Fatalf("a token is read as another: %v, %v", parsed, err)
	}
	return parsed
}

func (r *rig) pin(t *testing.T, token *authority.Token) *spiffebundle.Bundle {
	t.Helper()
	b, err := authority.Pin(t.Context(), r.ask, token.ID.TrustDomain(), token.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *rig) enrol(t *testing.T, spiffeID string) *authority.Issued {
	t.Helper()
	token := r.token(t, spiffeID)
	i, err := authority.Enrol(t.Context(), r.ask, token, r.pin(t, token))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func wantReason(t *testing.T, err error, want authority.Reason) {
	t.Helper()
	if r, ok := errors.AsType[*authority.Refusal](err); !ok || r.Reason != want {
		t.Errorf("got %v, expected the refusal %s", err, want)
	}
}

func TestATokenBringsOneIdentityOnce(t *testing.T) { // H19
	r := newRig(t, authority.Options{}, nil)
	token := r.token(t, agentID)
	bundle := r.pin(t, token)
	var won atomic.Int32
	var running sync.WaitGroup
	for range 100 {
		running.Go(func() {
			i, err := authority.Enrol(t.Context(), r.ask, token, bundle)
			if err != nil {
				wantReason(t, err, authority.TokenInvalid)
				return
			}
			won.Add(1)
			leaf := i.Certificate.Leaf
			if got, err := certs.LeafID(leaf); err != nil || got.String() != agentID || leaf.DNSNames[0] != "relay.dc1.example" {
				t.Errorf("issued %v, %v, %v", got, leaf.DNSNames, err)
			}
			if life := time.Until(leaf.NotAfter); life > 24*time.Hour || life < 24*time.Hour-time.Minute {
				t.Errorf("a life of %s", life)
			}
		})
	}
	running.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 100 tries with one token went well", n)
	}
	_, err := authority.Enrol(t.Context(), r.ask, token, bundle)
	wantReason(t, err, authority.TokenInvalid)
}

func TestATokenExpires(t *testing.T) { // H19
	r := newRig(t, authority.Options{}, nil)
	token, err := r.NewToken(id(t, agentID), nil, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond)
	_, err = authority.Enrol(t.Context(), r.ask, token, r.pin(t, token))
	wantReason(t, err, authority.TokenInvalid)
	if left, err := os.ReadDir(filepath.Join(r.dir, "tokens")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestATokenIsForItsOwnTrustDomainAndHasALife(t *testing.T) { // H12
	r := newRig(t, authority.Options{}, nil)
	for name, make := range map[string]func() (*authority.Token, error){
		"another trust domain": func() (*authority.Token, error) { return r.NewToken(id(t, "spiffe://cloud.example/a"), nil, time.Hour) },
		"no life":              func() (*authority.Token, error) { return r.NewToken(id(t, agentID), nil, 0) },
		"too long a life":      func() (*authority.Token, error) { return r.NewToken(id(t, agentID), nil, 8*24*time.Hour) },
		"no DNS name":          func() (*authority.Token, error) { return r.NewToken(id(t, agentID), []string{"a b"}, time.Hour) },
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
}

// TestWhoeverCarriesARequestCanChangeNothing puts a taken-over relay between an agent and the authority.
func TestWhoeverCarriesARequestCanChangeNothing(t *testing.T) {
	r, evil := newRig(t, authority.Options{}, nil), newRig(t, authority.Options{}, nil)
	token := r.token(t, agentID)
	bundle := r.pin(t, token)
	// Another authority in its place.
	if _, err := authority.Pin(t.Context(), evil.ask, r.td, token.Fingerprint); !errors.Is(err, authority.ErrNotTheAuthority) {
		t.Errorf("another authority was pinned: %v", err)
	}
	if _, err := authority.Fetch(t.Context(), evil.ask, nil, bundle); !errors.Is(err, authority.ErrNotTheAuthority) {
		t.Errorf("another authority's bundle: %v", err)
	}
	// A CSR of its own under the agent's token, whose key it does not see.
	swap := func(ctx context.Context, request []byte) ([]byte, error) {
		var fields, own map[string]map[string]any
		if err := json.Unmarshal(request, &fields); err != nil || fields["enrol"] == nil {
			return r.ask(ctx, request)
		}
		if bytes.Contains(request, token.Key[:]) {
			t.Error("the token's key crosses")
		}
		mine := newRig(t, authority.Options{}, nil)
		_, _ = authority.Enrol(ctx, func(_ context.Context, text []byte) ([]byte, error) {
			return nil, errors.Join(json.Unmarshal(text, &own), errors.New("seen"))
		}, mine.token(t, agentID), mine.pin(t, mine.token(t, agentID)))
		fields["enrol"]["csr"] = own["enrol"]["csr"]
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		return r.ask(ctx, text)
	}
	_, err := authority.Enrol(t.Context(), swap, token, bundle)
	wantReason(t, err, authority.TokenInvalid)
	issued, err := authority.Enrol(t.Context(), r.ask, token, bundle) // which has not used the token up
	if err != nil {
		t.Fatal(err)
	}
	// An old answer again: no ban would be heard of.
	var old []byte
	if _, err := authority.Fetch(t.Context(), func(ctx context.Context, request []byte) ([]byte, error) {
		old, _ = r.ask(ctx, request)
		return old, nil
	}, issued.Certificate, bundle); err != nil {
		t.Fatal(err)
	}
	replay := func(context.Context, []byte) ([]byte, error) { return old, nil }
	if _, err := authority.Fetch(t.Context(), replay, issued.Certificate, bundle); !errors.Is(err, authority.ErrNotTheAuthority) {
		t.Errorf("an old answer was believed: %v", err)
	}
	// Without a proof nobody hears whom the authority has banned.
	if _, err := r.Ban(agentID, ""); err != nil {
		t.Fatal(err)
	}
	s, err := authority.Fetch(t.Context(), r.ask, nil, bundle)
	if err != nil || s.Bans != nil {
		t.Errorf("without a proof: bans %v, %v", s, err)
	}
}

func TestAnSVIDRenewsAsItsOwnIdentityAlone(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	a := r.enrol(t, agentID)
	next, err := authority.Renew(t.Context(), r.ask, a.Certificate, a.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := certs.LeafID(next.Certificate.Leaf); got.String() != agentID || next.Certificate.Leaf.DNSNames[0] != "relay.dc1.example" {
		t.Errorf("renewed as %s", got)
	}
	if next.Certificate.Leaf.SerialNumber.Cmp(a.Certificate.Leaf.SerialNumber) == 0 {
		t.Error("the serial number stands twice")
	}
	// The SVID of somebody else with one's own key.
	b := r.enrol(t, "spiffe://dc1.example/agent/b")
	_, err = authority.Renew(t.Context(), r.ask, &tls.Certificate{Certificate: a.Certificate.Certificate, Leaf: a.Certificate.Leaf,
		PrivateKey: b.Certificate.PrivateKey}, a.Bundle)
	wantReason(t, err, authority.IdentityInvalid)
	// One of another authority that claims the same trust domain (H12).
	foreign := newRig(t, authority.Options{}, nil).enrol(t, agentID)
	_, err = authority.Renew(t.Context(), r.ask, foreign.Certificate, a.Bundle)
	wantReason(t, err, authority.IdentityInvalid)
}

func TestAnExpiredSVIDDoesNotRenew(t *testing.T) {
	r := newRig(t, authority.Options{SVIDLife: time.Second}, nil)
	a := r.enrol(t, agentID)
	time.Sleep(time.Until(a.Certificate.Leaf.NotAfter) + 1100*time.Millisecond) // certificates know whole seconds
	_, err := authority.Renew(t.Context(), r.ask, a.Certificate, a.Bundle)
	wantReason(t, err, authority.IdentityExpired)
}

func TestABanEndsRenewal(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	a, b := r.enrol(t, agentID), r.enrol(t, "spiffe://dc1.example/agent/b")
	next, err := authority.Renew(t.Context(), r.ask, a.Certificate, a.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	serial := authority.Serial(a.Certificate.Leaf)
	if _, err := r.Ban(strings.ToUpper(serial), "laptop stolen"); err != nil {
		t.Fatal(err)
	}
	_, err = authority.Renew(t.Context(), r.ask, next.Certificate, a.Bundle) // of the same line
	wantReason(t, err, authority.Banned)
	if _, err := authority.Renew(t.Context(), r.ask, b.Certificate, b.Bundle); err != nil {
		t.Errorf("another identity: %v", err)
	}
	if again := r.enrol(t, agentID); again.Certificate == nil { // the ID is not banned: a new token begins a new line
		t.Error("not enrolled again")
	}
	if _, err := r.Ban("spiffe://dc1.example/agent/b", ""); err != nil {
		t.Fatal(err)
	}
	_, err = authority.Renew(t.Context(), r.ask, b.Certificate, b.Bundle)
	wantReason(t, err, authority.Banned)
	token := r.token(t, "spiffe://dc1.example/agent/b")
	_, err = authority.Enrol(t.Context(), r.ask, token, r.pin(t, token))
	wantReason(t, err, authority.Banned)

	s, err := authority.Fetch(t.Context(), r.ask, r.enrol(t, "spiffe://dc1.example/relay/a").Certificate, a.Bundle)
	if err != nil || len(s.Bans) != 2 || s.Bans[0].Reason+s.Bans[1].Reason != "laptop stolen" {
		t.Fatalf("bans %v, %v", s, err)
	}
	if err := r.Unban(serial); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Renew(t.Context(), r.ask, next.Certificate, a.Bundle); err != nil {
		t.Errorf("after the ban was lifted: %v", err)
	}
	if err := r.Unban(serial); err == nil {
		t.Error("a ban was lifted twice")
	}
	if _, err := r.Ban("agent/b", ""); err == nil {
		t.Error("something was banned that is neither ID nor serial number")
	}
}

func TestARootTurnsOver(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	a := r.enrol(t, agentID)
	if err := r.Activate(true); err == nil {
		t.Error("activated a root that nobody has prepared")
	}
	if err := r.Prepare(); err != nil {
		t.Fatal(err)
	}
	s, err := authority.Fetch(t.Context(), r.ask, nil, a.Bundle)
	if err != nil || len(s.Bundle.X509Authorities()) != 2 {
		t.Fatalf("the bundle has no next root: %v, %v", s, err)
	}
	both := s.Bundle
	if err := r.Activate(false); err == nil {
		t.Error("activated before anybody could have fetched the next root")
	}
	if err := r.Activate(true); err != nil {
		t.Fatal(err)
	}
	next, err := authority.Renew(t.Context(), r.ask, a.Certificate, both) // by an SVID under the old root
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Retire(false); err == nil {
		t.Error("retired while SVIDs under the old root live")
	}
	if err := r.Retire(true); err != nil {
		t.Fatal(err)
	}
	_, err = authority.Renew(t.Context(), r.ask, a.Certificate, both)
	wantReason(t, err, authority.IdentityInvalid)
	if last, err := authority.Renew(t.Context(), r.ask, next.Certificate, both); err != nil || len(last.Bundle.X509Authorities()) != 1 {
		t.Errorf("under the new root alone: %v, %v", last, err)
	}
	if _, err := authority.Fetch(t.Context(), func(ctx context.Context, request []byte) ([]byte, error) {
		return r.ask(ctx, request)
	}, nil, a.Bundle); !errors.Is(err, authority.ErrNotTheAuthority) {
		t.Errorf("whoever has slept over it is told so: %v", err)
	}
	if roots, err := r.Roots(); err != nil || len(roots) != 1 || !roots[0].KeyHere {
		t.Errorf("%v, %v", roots, err)
	}
}

func TestAnOlderBundleIsRefused(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	bundle := r.pin(t, r.token(t, agentID))
	bundle.SetSequenceNumber(7)
	if _, err := authority.Fetch(t.Context(), r.ask, nil, bundle); !errors.Is(err, authority.ErrNotTheAuthority) {
		t.Errorf("got %v", err)
	}
}

func TestTheIssuerWorksWithoutTheRootsKey(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	roots, err := r.Roots()
	if err != nil {
		t.Fatal(err)
	}
	offline := filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(roots[0].Key, offline); err != nil {
		t.Fatal(err)
	}
	r.enrol(t, agentID)
	if err := r.NewIssuer(); err == nil || !strings.Contains(err.Error(), roots[0].Key) {
		t.Errorf("got %v, expected the name of the key's file", err)
	}
	if err := os.Rename(offline, roots[0].Key); err != nil {
		t.Fatal(err)
	}
	a := r.enrol(t, agentID)
	if err := r.NewIssuer(); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Renew(t.Context(), r.ask, a.Certificate, a.Bundle); err != nil {
		t.Errorf("an SVID of the issuer before: %v", err)
	}
}

func TestAKeyUnderAPassphrase(t *testing.T) {
	r := newRig(t, authority.Options{}, []byte("correct horse"))
	r.enrol(t, agentID)
	for name, passphrase := range map[string][]byte{"none": nil, "wrong": []byte("battery staple")} {
		_, err := authority.Open(authority.NewFolder(r.dir, passphrase), slog.New(slog.DiscardHandler))
		if err == nil || strings.Contains(err.Error(), "battery") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := filepath.Walk(r.dir, func(path string, info os.FileInfo, err error) error { // O01
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		text, _ := os.ReadFile(path)
		if strings.HasSuffix(path, ".key") && !bytes.Contains(text, []byte("BEGIN ENCRYPTED PRIVATE KEY")) {
			t.Errorf("%s is not encrypted", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := authority.NewFolder(r.dir, nil).Init(authority.Options{TrustDomain: r.td}); err == nil {
		t.Error("an authority was made over another")
	}
}

// TestTheIssuerIsConstrainedToItsTrustDomain signs an identity of another trust domain with the very issuing key.
func TestTheIssuerIsConstrainedToItsTrustDomain(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	a := r.enrol(t, agentID)
	chain := a.Certificate.Certificate
	if len(chain) != 2 {
		t.Fatalf("a chain of %d: the root belongs in the bundle", len(chain))
	}
	issuer, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "issuer-*.key"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for name, verifies := range map[string]bool{"spiffe://dc1.example/agent/z": true, "spiffe://cloud.example/agent/z": false} {
		leaf := *a.Certificate.Leaf
		leaf.URIs = []*url.URL{id(t, name).URL()}
		leaf.ExtraExtensions, leaf.Extensions = nil, nil
		der, err := x509.CreateCertificate(rand.Reader, &leaf, issuer, leaf.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(a.Bundle.X509Authorities()[0])
		between.AddCert(issuer)
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if (err == nil) != verifies {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoAnswerIsTakenThatTheIssuerHasNotSigned alters a statement on its way, and has somebody with an SVID sign one.
func TestNoAnswerIsTakenThatTheIssuerHasNotSigned(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	a := r.enrol(t, agentID)
	type message struct {
		Statement []byte `json:"statement"`
		Issuer    []byte `json:"issuer"`
		Signature []byte `json:"signature"`
	}
	through := func(change func(m *message)) error {
		_, err := authority.Fetch(t.Context(), func(ctx context.Context, request []byte) ([]byte, error) {
			var m message
			if err := json.Unmarshal(r.ca.Answer(ctx, request), &m); err != nil {
				return nil, err
			}
			change(&m)
			return json.Marshal(m)
		}, nil, a.Bundle)
		return err
	}
	if err := through(func(*message) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*message){
		"another sequence number": func(m *message) {
			m.Statement = bytes.Replace(m.Statement, []byte(`"spiffe_sequence":1`), []byte(`"spiffe_sequence":2`), 1)
		},
		"signed by an SVID": func(m *message) {
			sum := sha256.Sum256(append([]byte("EXPERIMENTAL-fairlead-statement\x00"), m.Statement...))
			m.Issuer = a.Certificate.Certificate[0]
			m.Signature, _ = a.Certificate.PrivateKey.(crypto.Signer).Sign(rand.Reader, sum[:], crypto.SHA256) // a failure is no signature
		},
	} {
		if err := through(change); !errors.Is(err, authority.ErrNotTheAuthority) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingOfATokenIsShown(t *testing.T) { // O07
	r := newRig(t, authority.Options{}, nil)
	token := r.token(t, agentID)
	for _, text := range []string{token.String(), fmt.Sprintf("%v %+v %#v %s", token, token, token, token)} {
		if strings.Contains(text, fmt.Sprint(token.Key[0])+" ") || strings.Contains(text, token.Text()[30:50]) || strings.Contains(text, "[32]") {
			t.Errorf("shown: %s", text)
		}
	}
	for _, text := range []string{"", "fairlead-enroll-1.", "fairlead-enroll-1.AAAA", token.Text()[1:], token.Text() + "!", token.Text()[:60]} {
		if _, err := authority.ParseToken(text); !errors.Is(err, authority.ErrNoToken) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatIsNoRequestIsRefused(t *testing.T) { // H20
	r := newRig(t, authority.Options{}, nil)
	for _, text := range []string{"", "{}", "[]", `{"enrol":{"token":"../authority.json"}}`, `{"enrol":{"token":"0011223344556677"}}`,
		`{"renew":{}}`, `{"mint":{}}`, `{"state":{"proof":{}}}`, strings.Repeat(" ", authority.MaxRequest) + "{}"} {
		var answer struct{ Refusal *authority.Refusal }
		if err := json.Unmarshal(r.ca.Answer(t.Context(), []byte(text)), &answer); err != nil || answer.Refusal == nil ||
			answer.Refusal.Reason == authority.Unavailable {
			t.Errorf("%.60q: %v, %v", text, answer.Refusal, err)
		}
	}
}

func TestTheSocketCarriesRequestsAndTheBundle(t *testing.T) {
	r := newRig(t, authority.Options{RefreshHint: time.Minute}, nil)
	path := filepath.Join(r.dir, "a.sock")
	ctx, stop := context.WithCancel(t.Context())
	ln, err := authority.Listen(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.ca.Serve(ctx, ln) }()
	client := authority.NewClient(path)
	defer client.Close()
	token := r.token(t, agentID)
	bundle, err := authority.Pin(t.Context(), client.Ask, r.td, token.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Enrol(t.Context(), client.Ask, token, bundle); err != nil {
		t.Fatal(err)
	}
	text, err := client.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := spiffebundle.Parse(r.td, text)
	if err != nil || len(b.X509Authorities()) != 1 || sha256.Sum256(b.X509Authorities()[0].Raw) != token.Fingerprint {
		t.Errorf("bundle %s: %v", text, err)
	}
	if hint, ok := b.RefreshHint(); !ok || hint != time.Minute {
		t.Errorf("refresh hint %v", hint)
	}
	if _, err := client.Ask(t.Context(), make([]byte, authority.MaxRequest+1)); err == nil { // H20
		t.Error("a request beyond the limit was answered")
	}
	if _, err := authority.Listen(ctx, path); err == nil {
		t.Error("a second authority took the socket")
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestARelayProvesItselfBeforeTheTokenIsUsed puts somebody between who carries requests to the right authority, without an
// SVID of its.
func TestARelayProvesItselfBeforeTheTokenIsUsed(t *testing.T) {
	r, other := newRig(t, authority.Options{}, nil), newRig(t, authority.Options{}, nil)
	token := r.token(t, agentID)
	chain := func(i *authority.Issued) func() []*x509.Certificate {
		return func() []*x509.Certificate {
			issuer, err := x509.ParseCertificate(i.Certificate.Certificate[1])
			if err != nil {
				t.Error(err)
			}
			return []*x509.Certificate{i.Certificate.Leaf, issuer}
		}
	}
	const relayID = "spiffe://dc1.example/relay/a"
	for name, shown := range map[string]func() []*x509.Certificate{
		"nothing": func() []*x509.Certificate { return nil }, "another authority's SVID": chain(other.enrol(t, relayID)),
	} {
		if _, err := authority.Bootstrap(t.Context(), r.ask, token, shown); err == nil {
			t.Fatalf("%s was taken for a relay", name)
		}
	}
	if _, err := authority.Bootstrap(t.Context(), r.ask, token, chain(r.enrol(t, relayID))); err != nil {
		t.Errorf("the token was used up, or the right relay refused: %v", err)
	}
}

func TestBansThatWouldNotCrossAreRefused(t *testing.T) {
	r := newRig(t, authority.Options{}, nil)
	a := r.enrol(t, agentID)
	reason := strings.Repeat("r", 200)
	for i := range 1000 {
		if _, err := r.Ban(fmt.Sprintf("spiffe://dc1.example/agent/%d", i), reason); err != nil {
			if s, err := authority.Fetch(t.Context(), r.ask, a.Certificate, a.Bundle); err != nil || len(s.Bans) != i {
				t.Errorf("%d bans do not cross: %v", i, err)
			}
			return
		}
	}
	t.Error("any number of bans was taken")
}
