package grant

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
)

const (
	maxKeys       = 64    // of one relay identity: its processes, and those that they replaced
	generationLen = 2_048 // grants that are remembered, of each of two generations
)

// Config makes a Keyring.
type Config struct {
	Source certs.Source // required: judges the SVIDs of relays
	// Authorize says whether a relay may hand us calls. It is asked for each grant, also for one that is remembered, and
	// so must be quick.
	Authorize func(certs.Identity) error
	Now       func() time.Time // default time.Now
}

// A Keyring holds the grant keys that relays have shown, and checks grants by them. It is safe for concurrent use and
// never blocks.
type Keyring struct {
	cfg Config

	// mu guards: everything below.
	mu         sync.RWMutex
	keys       map[string]*key // by kid
	young, old map[string]*checked
}

// key is one that an SVID has signed, or several of one identity, one after the other. Nobody changes it.
type key struct {
	public   ed25519.PublicKey
	header   []byte
	chain    []*x509.Certificate // of the SVID that ends last
	identity certs.Identity      // which that has proved
}

// checked is a grant whose signature has held. Its key is looked up again each time, since it may have gone.
type checked struct {
	grant *Grant
	kid   string
}

// NewKeyring returns one that has no key yet.
func NewKeyring(cfg Config) *Keyring {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keyring{cfg: cfg, keys: make(map[string]*key), young: make(map[string]*checked)}
}

// Add takes a relay's key, and returns whose it is. The SVID is verified as in a handshake.
func (k *Keyring) Add(d *Delegation) (certs.Identity, error) {
	chain, err := certs.ParseChain(d.Chain)
	if err != nil {
		return certs.Identity{}, fmt.Errorf("grant key: %w", err)
	}
	if len(d.Key) != ed25519.PublicKeySize {
		return certs.Identity{}, fmt.Errorf("grant key: expected %d bytes, got %d", ed25519.PublicKeySize, len(d.Key))
	}
	identity, err := certs.Verify(k.cfg.Source, chain, x509.ExtKeyUsageServerAuth, k.cfg.Now())
	if err != nil {
		return certs.Identity{}, fmt.Errorf("grant key: %w", err)
	}
	if err := certs.CheckSignature(chain[0], delegated(d.Key), d.Signature); err != nil {
		return certs.Identity{}, fmt.Errorf("grant key: %w", err)
	}
	if err := k.cfg.Authorize(identity); err != nil {
		return certs.Identity{}, fmt.Errorf("grant key: %w", err)
	}
	kid := keyID(d.Key)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch before := k.keys[kid]; {
	case before != nil && before.identity.ID != identity.ID:
		return certs.Identity{}, fmt.Errorf("grant key: %s shows a key of %s", identity.ID, before.identity.ID)
	case before != nil && !identity.NotAfter.After(before.identity.NotAfter):
		return identity, nil
	case before == nil:
		k.makeRoom(identity.ID)
	}
	k.keys[kid] = &key{public: slices.Clone(d.Key), header: append([]byte(header(kid)), '.'), chain: chain, identity: identity}
	return identity, nil
}

// makeRoom drops what has expired, and the oldest keys of a relay that has too many. k.mu is held.
func (k *Keyring) makeRoom(relay certs.ID) {
	now, count, oldest := k.cfg.Now(), 0, ""
	for kid, key := range k.keys {
		if now.After(key.identity.NotAfter) {
			delete(k.keys, kid)
			continue
		}
		if key.identity.ID == relay {
			if count++; oldest == "" || key.identity.NotAfter.Before(k.keys[oldest].identity.NotAfter) {
				oldest = kid
			}
		}
	}
	if count >= maxKeys {
		delete(k.keys, oldest)
	}
}

// Check says what a grant says, where it is of a relay that may hand us calls, holds now and is for that tunnel. The error
// wraps ErrInvalid, ErrUnknownKey or ErrExpired, or is Authorize's.
func (k *Keyring) Check(raw []byte, tunnel string) (*Grant, error) {
	now := k.cfg.Now()
	k.mu.RLock()
	c := k.young[string(raw)]
	if c == nil {
		c = k.old[string(raw)]
	}
	k.mu.RUnlock()
	if c == nil {
		var err error
		if c, err = k.read(raw); err != nil {
			return nil, err
		}
	}
	identity, err := k.identity(c.kid, now)
	switch {
	case err != nil:
		return nil, err
	case c.grant.Tunnel != tunnel:
		return nil, fmt.Errorf("%w: it is for another tunnel", ErrInvalid)
	}
	if err := c.grant.holds(now); err != nil {
		return nil, err
	}
	if err := k.cfg.Authorize(identity); err != nil {
		return nil, err
	}
	return c.grant, nil
}

// identity is whose a key is, as far as that still holds: bundles come and go.
func (k *Keyring) identity(kid string, now time.Time) (certs.Identity, error) {
	k.mu.RLock()
	old := k.keys[kid]
	k.mu.RUnlock()
	switch {
	case old == nil:
		return certs.Identity{}, ErrUnknownKey
	case now.After(old.identity.NotAfter):
		return certs.Identity{}, fmt.Errorf("%w: the SVID behind its key ended at %s", ErrExpired, stamp(old.identity.NotAfter))
	case old.identity.Generation == k.cfg.Source.Generation():
		return old.identity, nil
	}
	again := *old
	var err error
	again.identity, err = certs.Verify(k.cfg.Source, old.chain, x509.ExtKeyUsageServerAuth, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[kid] != old { // somebody else was here
		return again.identity, err
	}
	if err != nil {
		delete(k.keys, kid)
		return certs.Identity{}, fmt.Errorf("%w: %w", ErrUnknownKey, err)
	}
	k.keys[kid] = &again
	return again.identity, nil
}

// read verifies a grant that was not seen before.
func (k *Keyring) read(raw []byte) (*checked, error) {
	if len(raw) == 0 || len(raw) > maxGrant {
		return nil, fmt.Errorf("%w: expected 1 to %d bytes, got %d", ErrInvalid, maxGrant, len(raw))
	}
	parts := bytes.Split(raw, []byte("."))
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: expected three parts, got %d", ErrInvalid, len(parts))
	}
	kid, key, err := k.keyOf(raw[:len(parts[0])+1])
	if err != nil {
		return nil, err
	}
	signature, err := decode(parts[2])
	if err != nil || !ed25519.Verify(key.public, raw[:len(parts[0])+1+len(parts[1])], signature) {
		return nil, fmt.Errorf("%w: the signature does not hold", ErrInvalid)
	}
	payload, err := decode(parts[1])
	if err != nil {
		return nil, err
	}
	var said claims
	if err := json.Unmarshal(payload, &said); err != nil {
		return nil, fmt.Errorf("%w: its claims do not parse", ErrInvalid)
	}
	if said.Issuer != key.identity.ID.String() {
		return nil, fmt.Errorf("%w: it is not of the relay whose key has signed it", ErrInvalid)
	}
	g, err := said.grant()
	if err != nil {
		return nil, err
	}
	g.Relay = key.identity.ID
	c := &checked{g, kid}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.young) >= generationLen {
		k.old, k.young = k.young, make(map[string]*checked)
	}
	k.young[string(raw)] = c
	return c, nil
}

// keyOf finds the key by a grant's header, which must be the very one that we would write.
func (k *Keyring) keyOf(header []byte) (string, *key, error) {
	b, err := decode(header[:len(header)-1])
	if err != nil {
		return "", nil, err
	}
	var said struct {
		Kid string `json:"kid"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return "", nil, fmt.Errorf("%w: its header does not parse", ErrInvalid)
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch key := k.keys[said.Kid]; {
	case key == nil:
		return "", nil, ErrUnknownKey
	case !bytes.Equal(key.header, header):
		return "", nil, fmt.Errorf("%w: expected typ %s and alg EdDSA", ErrInvalid, mediaType)
	default:
		return said.Kid, key, nil
	}
}

func decode(part []byte) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, part)
	if err != nil || bytes.ContainsAny(part, "\r\n") {
		return nil, fmt.Errorf("%w: expected base64url", ErrInvalid)
	}
	return b, nil
}
