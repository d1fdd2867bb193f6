package authority

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/secretfile"
)

// A Token lets whoever has it enrol, once, as the one identity it was made for. It is a secret.
type Token struct {
	Number      string   // hexadecimal; no secret
	Key         [32]byte // what proves the token
	Fingerprint [32]byte // of the root that the authority proves itself with
	ID          certs.ID // what the authority will issue
}

const (
	tokenPrefix = "fairlead-enroll-1."
	numberBytes = 8
	// MaxTokenLife bounds how long a token may lie about.
	MaxTokenLife = 7 * 24 * time.Hour
)

// Text is the token for its user, in one line.
func (t *Token) Text() string {
	number, _ := hex.DecodeString(t.Number) // made or checked by this package
	raw := append(append(append(number, t.Key[:]...), t.Fingerprint[:]...), t.ID.String()...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// String names the token without its secret.
func (t *Token) String() string { return "token " + t.Number }

// GoString is String, so that no %#v shows the key.
func (t *Token) GoString() string { return t.String() }

// ErrNoToken is ParseToken's. It does not quote what it was given.
var ErrNoToken = errors.New("expected an enrolment token, as `fairlead-relay authority token` prints it")

// ParseToken reads a token's text; white space around it does not matter.
func ParseToken(text string) (*Token, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(raw) <= numberBytes+64 {
		return nil, ErrNoToken
	}
	t := &Token{Number: hex.EncodeToString(raw[:numberBytes])}
	raw = raw[numberBytes:]
	copy(t.Key[:], raw)
	copy(t.Fingerprint[:], raw[32:])
	if t.ID, err = certs.ParseID(string(raw[64:])); err != nil {
		return nil, ErrNoToken
	}
	return t, nil
}

// pendingToken is a token in the authority's folder.
type pendingToken struct {
	ID       string    `json:"id"`
	DNS      []string  `json:"dns,omitempty"`
	Key      []byte    `json:"key"`
	NotAfter time.Time `json:"not_after"`
}

// NewToken makes a token for an ID of the authority's trust domain, and the DNS names that its SVIDs carry.
func (f *Folder) NewToken(id certs.ID, dns []string, life time.Duration) (*Token, error) {
	s, err := f.read()
	if err != nil {
		return nil, err
	}
	if id.TrustDomain() != s.td || id.Path() == "" {
		return nil, fmt.Errorf("expected a SPIFFE ID with a path in %s, got %s", s.td, id)
	}
	if life <= 0 || life > MaxTokenLife {
		return nil, fmt.Errorf("expected a life of at most %s, got %s", MaxTokenLife, life)
	}
	for _, name := range dns {
		if err := checkDNS(name); err != nil {
			return nil, err
		}
	}
	t := &Token{ID: id, Fingerprint: Fingerprint(s.root(CurrentRoot).cert)}
	number := make([]byte, numberBytes)
	if _, err := rand.Read(number); err != nil {
		return nil, err
	}
	if _, err := rand.Read(t.Key[:]); err != nil {
		return nil, err
	}
	t.Number = hex.EncodeToString(number)
	text, err := json.Marshal(pendingToken{id.String(), dns, t.Key[:], time.Now().Add(life).UTC()})
	if err != nil {
		return nil, err
	}
	return t, errors.Join(f.sweep(), secretfile.Write(f.file("tokens", t.Number), text))
}

func checkDNS(name string) error {
	bare := strings.TrimPrefix(name, "*.")
	ok := bare != "" && len(bare) <= 253 && !strings.Contains(bare, "..") && bare[0] != '.' && bare[len(bare)-1] != '.'
	for _, c := range []byte(bare) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return fmt.Errorf("expected a DNS name in lower case, got %q", name)
	}
	return nil
}

const maxTokenFile = 16 << 10

// pending reads a token that was not used yet; fs.ErrNotExist where there is none.
func (f *Folder) pending(number string) (*pendingToken, error) {
	if raw, err := hex.DecodeString(number); err != nil || len(raw) != numberBytes || hex.EncodeToString(raw) != number {
		return nil, fs.ErrNotExist // no path is made of anything else
	}
	text, err := secretfile.Read(f.file("tokens", number), maxTokenFile)
	if err != nil {
		return nil, err
	}
	t := new(pendingToken)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("token %s: its file does not parse", number)
	}
	return t, nil
}

// spend uses a token up.
func (f *Folder) spend(number string) error { return os.Remove(f.file("tokens", number)) }

// sweep removes tokens that have expired.
func (f *Folder) sweep() error {
	entries, err := os.ReadDir(f.file("tokens"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if t, err := f.pending(e.Name()); err == nil && time.Now().After(t.NotAfter) {
			if err := f.spend(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
