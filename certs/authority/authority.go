// Package authority is the built-in certificate authority, for those without SPIRE: one trust domain, an offline root, an
// issuing intermediate that is constrained to the trust domain, and two ways to an X.509-SVID. A token brings the one SPIFFE
// ID that it was made for, once; an SVID brings another of the same ID, for as long as it has not expired.
//
// Relays only carry its requests and answers (type Ask): each request is proved by a token or an SVID that no relay holds,
// each answer is signed. A relay that was taken over can mint nothing, and can neither swap a bundle nor hide a ban.
//
// It knows no wire but its own socket, and keeps no links: package enrolled keeps an SVID fresh.
package authority

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// MaxRequest is the largest request in bytes: a CSR and a chain.
const MaxRequest = 32 << 10

// Authority answers requests. Its methods are safe for concurrent use. What commands change in its folder counts at once.
type Authority struct {
	folder *Folder
	log    *slog.Logger

	mu     sync.Mutex // one request at a time: a token is found and used up under it; guards: the fields below
	raw    []byte     // settings as read last
	issuer *issuer
}

// Open reads the folder and its issuing key.
func Open(folder *Folder, log *slog.Logger) (*Authority, error) {
	a := &Authority{folder: folder, log: log}
	return a, a.load()
}

// load reads what commands may have changed. It is called with mu held, or before anybody else knows a.
func (a *Authority) load() error {
	raw, err := os.ReadFile(a.folder.file(settingsFile))
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	if bytes.Equal(raw, a.raw) {
		return nil
	}
	s, err := parseSettings(raw)
	if err != nil {
		return err
	}
	key, err := a.folder.readKey(keyFile("issuer", s.issuer))
	if err != nil {
		return err
	}
	if err := sameKey(key, s.issuer); err != nil {
		return err
	}
	a.raw, a.issuer = raw, &issuer{settings: s, key: key}
	return nil
}

// Expiries are those of the roots and of the issuing certificate.
func (a *Authority) Expiries() []certs.Expiry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.load(); err != nil {
		a.log.Error("the authority's folder is no good", "error", err)
	}
	s := a.issuer.settings
	all := []certs.Expiry{{Kind: "issuer", Name: s.td.Name(), From: s.issuer.NotBefore, Until: s.issuer.NotAfter}}
	for _, r := range s.roots {
		all = append(all, certs.Expiry{Kind: "root", Name: s.td.Name(), From: r.cert.NotBefore, Until: r.cert.NotAfter})
	}
	return all
}

// Answer answers one request, whoever brings it: what it may do, it proves itself. A refusal is an answer too.
func (a *Authority) Answer(ctx context.Context, request []byte) []byte {
	answer, err := a.answer(ctx, request)
	if err != nil {
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok {
			a.log.ErrorContext(ctx, "a request was not answered", "error", err)
			refusal = refuse(Unavailable, "the authority has a fault, which its log names")
		} else {
			a.log.WarnContext(ctx, "request refused", "security", true, "reason", string(refusal.Reason), "text", refusal.Text)
		}
		answer = &message{Refusal: refusal}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err) // strings and bytes
	}
	return text
}

func (a *Authority) answer(ctx context.Context, text []byte) (*message, error) {
	var r request
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if len(text) > MaxRequest || d.Decode(&r) != nil {
		return nil, refuse(BadRequest, "a request of at most %d bytes is expected", MaxRequest)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.load(); err != nil {
		return nil, err
	}
	said := &statement{Time: time.Now().UTC()}
	var err error
	switch {
	case r.Enrol != nil:
		said.SVID, err = a.enrol(ctx, r.Enrol)
	case r.Renew != nil:
		said.SVID, err = a.renew(ctx, r.Renew)
	case r.State != nil:
		if r.State.Proof != nil {
			if _, err = a.proved(r.State.Proof, stateLabel, r.State.Nonce); err == nil {
				said.Bans, err = a.folder.Bans()
			}
		}
	default:
		err = refuse(BadRequest, "enrol, renew or state is expected")
	}
	if err != nil {
		return nil, err
	}
	if said.Bundle, err = a.issuer.settings.bundle(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	said.About = sum[:]
	return a.issuer.sign(said)
}

// enrol issues the SVID of a token, and uses the token up.
func (a *Authority) enrol(ctx context.Context, r *enrolRequest) ([][]byte, error) {
	const unknown = "the token is not known: it was used, has expired, or is another authority's"
	pending, err := a.folder.pending(r.Token)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(TokenInvalid, unknown)
	}
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(r.MAC, enrolMAC(pending.Key, r.CSR)) {
		return nil, refuse(TokenInvalid, unknown)
	}
	if late := time.Since(pending.NotAfter); late > 0 {
		return nil, errors.Join(refuse(TokenInvalid, "the token has expired %s ago", late.Round(time.Second)), a.folder.spend(r.Token))
	}
	id, err := certs.ParseID(pending.ID)
	if err != nil {
		return nil, err
	}
	if err := a.checkBans(certs.Identity{ID: id}); err != nil {
		return nil, err
	}
	key, err := parseCSR(r.CSR)
	if err != nil {
		return nil, err
	}
	if err := a.folder.spend(r.Token); err != nil {
		return nil, err
	}
	line := make([]byte, lineBytes)
	if _, err := rand.Read(line); err != nil {
		return nil, err
	}
	return a.issue(ctx, id, pending.DNS, key, line, "token "+r.Token)
}

// renew issues another SVID of the ID whose SVID signed the request.
func (a *Authority) renew(ctx context.Context, r *renewRequest) ([][]byte, error) {
	leaf, err := a.proved(&r.Proof, renewLabel, r.CSR)
	if err != nil {
		return nil, err
	}
	id, err := certs.LeafID(leaf)
	if err != nil {
		return nil, err
	}
	key, err := parseCSR(r.CSR)
	if err != nil {
		return nil, err
	}
	line, ok := lineOf(leaf.SerialNumber)
	if !ok {
		return nil, refuse(IdentityInvalid, "the serial number %s is none of this authority's", Serial(leaf))
	}
	return a.issue(ctx, id, leaf.DNSNames, key, line, "renewal of "+Serial(leaf))
}

// proved returns the leaf whose key has signed the subject: one that this authority has issued, that has not expired, and
// is not banned.
func (a *Authority) proved(p *proof, label string, subject []byte) (*x509.Certificate, error) {
	chain, err := parseChain(p.Chain)
	if err != nil {
		return nil, err
	}
	id, err := certs.Verify(a.issuer.settings, chain, x509.ExtKeyUsageAny, time.Now())
	if invalid, ok := errors.AsType[*certs.VerifyError](err); ok {
		reason := IdentityInvalid
		if invalid.Reason == certs.ReasonExpired {
			reason = IdentityExpired
		}
		return nil, refuse(reason, "%s", invalid.Error())
	}
	if err != nil {
		return nil, err
	}
	if chain[0].CheckSignature(x509.ECDSAWithSHA256, signed(label, subject), p.Signature) != nil {
		return nil, refuse(IdentityInvalid, "the request is not signed by the key of %s", id.ID)
	}
	return chain[0], a.checkBans(id)
}

func (a *Authority) checkBans(id certs.Identity) error {
	bans, err := a.folder.Bans()
	if err != nil {
		return err
	}
	if b := bans.Of(id); b != nil {
		return refuse(Banned, "%s is banned since %s", b.Target, b.Since.Format(time.RFC3339))
	}
	return nil
}

func (a *Authority) issue(ctx context.Context, id certs.ID, dns []string, key any, line []byte, why string) ([][]byte, error) {
	cert, err := a.issuer.issue(id, dns, key, line, time.Now())
	if err != nil {
		return nil, err
	}
	a.log.InfoContext(ctx, "SVID issued", "spiffe_id", id.String(), "serial", Serial(cert), "dns", dns, "not_after", cert.NotAfter, "by", why)
	return [][]byte{cert.Raw, a.issuer.settings.issuer.Raw}, nil
}
