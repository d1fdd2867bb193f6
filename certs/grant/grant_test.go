package grant

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

const relayID = "spiffe://cloud.example/relay/a"

// desk is a relay's signer and an agent's keyring, which has the relay's key.
type desk struct {
	t      testing.TB
	ca     *certstest.CA
	source *certstest.Source
	signer *Signer
	ring   *Keyring
	now    time.Time
	banned bool
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{t: t, ca: certstest.NewCA(t, "cloud.example"), now: time.Now()}
	d.source = certstest.NewSource(d.ca.Issue(t, "spiffe://cloud.example/agent/1"), d.ca)
	d.ring = NewKeyring(Config{Source: d.source, Now: func() time.Time { return d.now }, Authorize: func(id certs.Identity) error {
		if d.banned || !strings.HasPrefix(id.ID.Path(), "/relay/") {
			return errNotAllowed
		}
		return nil
	}})
	d.signer = d.newSigner()
	d.show(d.signer, relayID)
	return d
}

var errNotAllowed = errors.New("not a relay of ours")

func (d *desk) newSigner() *Signer {
	d.t.Helper()
	s, err := NewSigner(certstest.NewSource(d.ca.Issue(d.t, relayID), d.ca))
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *desk) delegation(s *Signer, id string, options ...certstest.Option) *Delegation {
	d.t.Helper()
	return delegate(d.t, s, d.ca.Issue(d.t, id, options...))
}

// delegate has an SVID sign the key of s, whoever's that is.
func delegate(t testing.TB, s *Signer, cert tls.Certificate) *Delegation {
	t.Helper()
	other := &Signer{source: certstest.NewSource(cert), id: spiffeid.ID{}, key: s.key, header: s.header}
	other.id = other.source.ID()
	got, err := other.Delegation()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (d *desk) show(s *Signer, id string, options ...certstest.Option) {
	d.t.Helper()
	if _, err := d.ring.Add(d.delegation(s, id, options...)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) sign(g *Grant) []byte {
	d.t.Helper()
	b, err := d.signer.Sign(g, d.now)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func TestAGrantSaysWhoCallsWhat(t *testing.T) {
	d := newDesk(t)
	want := &Grant{Tunnel: "orders", Caller: spiffeid.RequireFromString("spiffe://cloud.example/api/shop"), App: "shop", User: "ada",
		Issuer: "https://idp.example", Scopes: []string{"orders.read", "orders.write"}, Groups: []string{"clerks, senior"}, ACR: "gold", AMR: []string{"pwd", "otp"}}
	raw := d.sign(want)
	for range 2 { // read, and remembered
		got, err := d.ring.Check(raw, "orders")
		if err != nil {
			t.Fatal(err)
		}
		want.Relay, want.Issued, want.Until = spiffeid.RequireFromString(relayID), time.Unix(d.now.Unix(), 0), time.Unix(d.now.Add(MaxLife).Unix(), 0)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b certs.ID) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := d.ring.Check(raw, "ledger"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a grant for another tunnel: %v", err)
	}
}

func TestAGrantHoldsForAMinuteOnly(t *testing.T) {
	d := newDesk(t)
	raw := d.sign(&Grant{Tunnel: "orders"})
	start := d.now
	for after, holds := range map[time.Duration]bool{-Leeway + time.Second: true, -Leeway - time.Second: false, MaxLife + Leeway - time.Second: true,
		MaxLife + Leeway + time.Second: false} {
		d.now = start.Add(after)
		if _, err := d.ring.Check(raw, "orders"); (err == nil) != holds || err != nil && !errors.Is(err, ErrExpired) {
			t.Errorf("%v after it was made: %v", after, err)
		}
	}
}

func TestAGrantEndsWithWhatItsKeyStandsOn(t *testing.T) {
	for name, end := range map[string]func(*desk){
		"the relay is banned":      func(d *desk) { d.banned = true },
		"its trust domain is gone": func(d *desk) { d.source.Distrust(d.ca.TrustDomain()) },
		"its SVID has expired":     func(d *desk) { d.now = d.now.Add(20 * time.Second) },
	} {
		d := newDesk(t)
		d.signer = d.newSigner()
		d.show(d.signer, relayID, certstest.NotAfter(d.now.Add(10*time.Second)))
		raw := d.sign(&Grant{Tunnel: "orders"})
		if _, err := d.ring.Check(raw, "orders"); err != nil {
			t.Fatalf("%s: before it: %v", name, err)
		}
		if end(d); func() error { _, err := d.ring.Check(raw, "orders"); return err }() == nil {
			t.Errorf("%s: the grant still holds", name)
		}
	}
}

func TestARenewedSVIDProlongsTheKey(t *testing.T) {
	d := newDesk(t)
	d.signer = d.newSigner()
	d.show(d.signer, relayID, certstest.NotAfter(d.now.Add(10*time.Second)))
	d.show(d.signer, relayID, certstest.NotAfter(d.now.Add(time.Hour)))
	d.show(d.signer, relayID, certstest.NotAfter(d.now.Add(time.Minute))) // which came late
	d.now = d.now.Add(30 * time.Minute)
	if _, err := d.ring.Check(d.sign(&Grant{Tunnel: "orders"}), "orders"); err != nil {
		t.Error(err)
	}
}

func TestAnotherIdentityMeansAnotherKey(t *testing.T) {
	d := newDesk(t)
	source := certstest.NewSource(d.ca.Issue(t, relayID), d.ca)
	s, err := NewSigner(source)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Delegation()
	if err != nil {
		t.Fatal(err)
	}
	source.SetCertificate(d.ca.Issue(t, relayID))
	renewed, err := s.Delegation()
	if err != nil || !bytes.Equal(first.Key, renewed.Key) {
		t.Errorf("a renewed SVID: %v, another key: %t", err, !bytes.Equal(first.Key, renewed.Key))
	}
	source.SetCertificate(d.ca.Issue(t, "spiffe://cloud.example/relay/b"))
	other, err := s.Delegation()
	if err != nil || bytes.Equal(first.Key, other.Key) {
		t.Errorf("another identity: %v, the same key: %t", err, bytes.Equal(first.Key, other.Key))
	}
}

func TestForeignAndForgedKeysAreNotTaken(t *testing.T) {
	d := newDesk(t)
	stranger := certstest.NewCA(t, "cloud.example")
	untrusted := delegate(t, d.newSigner(), stranger.Issue(t, relayID))
	swapped := *d.delegation(d.newSigner(), relayID)
	swapped.Key = d.delegation(d.newSigner(), relayID).Key
	for name, got := range map[string]*Delegation{
		"of another CA":       untrusted,
		"of no relay":         d.delegation(d.newSigner(), "spiffe://cloud.example/api/shop"),
		"another key":         &swapped,
		"a short key":         {Chain: swapped.Chain, Key: swapped.Key[:31], Signature: swapped.Signature},
		"no chain":            {Key: swapped.Key, Signature: swapped.Signature},
		"another relay's key": d.delegation(d.signer, "spiffe://cloud.example/relay/b"),
	} {
		if _, err := d.ring.Add(got); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestForgedGrantsAreInvalid(t *testing.T) {
	d := newDesk(t)
	raw := d.sign(&Grant{Tunnel: "orders", User: "ada"})
	parts := strings.Split(string(raw), ".")
	resigned := func(header, payload string) string {
		b := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		return b + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(d.signer.key, []byte(b)))
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(map[string]any)) string {
		var c map[string]any
		if err := json.Unmarshal(payload, &c); err != nil {
			t.Fatal(err)
		}
		change(c)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return resigned(string(head), string(b))
	}
	other := d.newSigner()
	unknown, err := other.Sign(&Grant{Tunnel: "orders"}, d.now)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  string
		want error
	}{
		"empty":               {"", ErrInvalid},
		"too long":            {strings.Repeat("a", maxGrant+1), ErrInvalid},
		"two parts":           {parts[0] + "." + parts[1], ErrInvalid},
		"another payload":     {parts[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte("ada"), []byte("eve"), 1)) + "." + parts[2], ErrInvalid},
		"no signature":        {parts[0] + "." + parts[1] + ".", ErrInvalid},
		"line ends":           {parts[0] + "." + parts[1] + "\n." + parts[2], ErrInvalid},
		"alg none":            {resigned(strings.Replace(string(head), "EdDSA", "none", 1), string(payload)), ErrInvalid},
		"another typ":         {resigned(strings.Replace(string(head), mediaType, "at+jwt", 1), string(payload)), ErrInvalid},
		"an unknown key":      {string(unknown), ErrUnknownKey},
		"another relay's":     {with(func(c map[string]any) { c["iss"] = "spiffe://cloud.example/relay/b" }), ErrInvalid},
		"a life of a day":     {with(func(c map[string]any) { c["exp"] = d.now.Add(24 * time.Hour).Unix() }), ErrInvalid},
		"an end before begin": {with(func(c map[string]any) { c["exp"] = d.now.Add(-time.Second).Unix() }), ErrInvalid},
		"no tunnel":           {with(func(c map[string]any) { delete(c, "tunnel") }), ErrInvalid},
		"no SPIFFE ID":        {with(func(c map[string]any) { c["caller"] = "ada" }), ErrInvalid},
		"a number for a text": {with(func(c map[string]any) { c["sub"] = 7 }), ErrInvalid},
	} {
		if g, err := d.ring.Check([]byte(c.raw), "orders"); !errors.Is(err, c.want) {
			t.Errorf("%s: got %+v, %v, want %v", name, g, err, c.want)
		}
	}
}

func TestKeysAndGrantsAreBounded(t *testing.T) {
	d := newDesk(t)
	for range maxKeys + 10 {
		d.show(d.newSigner(), relayID)
	}
	d.show(d.signer, relayID, certstest.NotAfter(d.now.Add(24*time.Hour)))
	for i := range 2*generationLen + 10 {
		if _, err := d.ring.Check(d.sign(&Grant{Tunnel: "orders", User: string(rune('a' + i))}), "orders"); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.ring.keys) > maxKeys || len(d.ring.young) > generationLen || len(d.ring.old) > generationLen {
		t.Errorf("%d keys, %d and %d grants", len(d.ring.keys), len(d.ring.young), len(d.ring.old))
	}
}

func BenchmarkCheckRemembered(b *testing.B) {
	d := newDesk(b)
	raw := d.sign(&Grant{Tunnel: "orders", Caller: spiffeid.RequireFromString("spiffe://cloud.example/api/shop"), User: "ada", Issuer: "https://idp.example"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.ring.Check(raw, "orders"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	d := newDesk(b)
	g := &Grant{Tunnel: "orders", Caller: spiffeid.RequireFromString("spiffe://cloud.example/api/shop"), User: "ada", Issuer: "https://idp.example"}
	b.ReportAllocs()
	for b.Loop() {
		d.sign(g)
	}
}

// FuzzCheck: nothing but what was signed is taken, and nothing panics.
func FuzzCheck(f *testing.F) {
	d := newDesk(f)
	good := d.sign(&Grant{Tunnel: "orders", User: "ada"})
	f.Add(good)
	f.Add([]byte("e30.e30.AA"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := d.ring.Check(raw, "orders"); err == nil && !bytes.Equal(raw, good) {
			t.Errorf("%q holds", raw)
		}
	})
}
