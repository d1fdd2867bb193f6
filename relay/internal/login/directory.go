package login

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

// DirectoryConfig is one entry of `directories`.
type DirectoryConfig struct {
	// Name is how tunnels name it. Key `name`, required.
	Name string
	// Tunnel leads to it: a tcp tunnel of this file, whose callers admit the relay's own SPIFFE ID. Key `tunnel`, required.
	Tunnel protocol.TunnelName
	// StartTLS begins in plaintext and upgrades (RFC 4511 §4.14); false is TLS from the first byte (ldaps). The agent's tunnel is
	// tcp:// either way: TLS ends at the directory. Key `tls`, required: ldaps or starttls.
	StartTLS bool
	// ServerName is what the directory's certificate must name. Key `server_name`, required.
	ServerName string
	// CA is a PEM file of the roots that it must chain to. Key `ca`, default: the system's.
	CA string
	// BindDN and PasswordFile are who searches. Keys `bind_dn` and `password_file` (a secret file), default: nobody in particular.
	BindDN, PasswordFile string
	// Base and Filter find the user: below which entry, and by which filter, in which {user} stands for the name. Keys `base`,
	// required, and `filter`, default (uid={user}).
	Base, Filter string
	// GroupAttribute is the attribute of the user's entry that names its groups. Key `groups.attribute`, default memberOf, unless
	// GroupBase is there: groups are entries below it then, found by GroupFilter, in which {dn} stands for the user's entry. Keys
	// `groups.base` and `groups.filter`, default (member={dn}).
	GroupAttribute, GroupBase, GroupFilter string
	// Cache is how long a good password is good without the directory being asked. Key `cache`, default 30s, at most 5m.
	Cache time.Duration
}

// Bounds of a login.
const (
	maxName     = 256 // bytes
	maxPassword = 1024
	maxGroups   = 256
	askTimeout  = 5 * time.Second
	maxAsking   = 16    // logins under way at one time, of one directory
	maxKnown    = 4_096 // of each of two generations
)

// attempts is how often one name may be tried: beyond it not even the directory hears of it, so that nobody locks another's
// account there, or guesses on.
var attempts = limit.Quota{Rate: 1.0 / 6, Burst: 5}

// A Directory judges names and passwords. It is safe for concurrent use.
type Directory struct {
	cfg   DirectoryConfig
	tls   *tls.Config
	dial  Dial
	tries *limit.Calls
	key   [32]byte
	room  chan struct{}

	// mu guards: the logins that were good; when the young generation is full it becomes the old one, which is dropped.
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]known
}

type known struct {
	user  *User
	until time.Time
}

// NewDirectory reads the files that the configuration names, and asks nobody yet.
func NewDirectory(cfg DirectoryConfig, dial Dial) (*Directory, error) {
	cfg.Filter = cmp.Or(cfg.Filter, "(uid={user})")
	cfg.GroupAttribute = cmp.Or(cfg.GroupAttribute, "memberOf")
	cfg.GroupFilter = cmp.Or(cfg.GroupFilter, "(member={dn})")
	cfg.Cache = cmp.Or(cfg.Cache, 30*time.Second)
	d := &Directory{cfg: cfg, dial: dial, tries: limit.NewCalls(maxKnown), room: make(chan struct{}, maxAsking), young: make(map[[sha256.Size]byte]known)}
	d.tls = &tls.Config{ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12}
	if _, err := rand.Read(d.key[:]); err != nil {
		return nil, err
	}
	if cfg.CA != "" {
		b, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("directory %s: ca: %w", cfg.Name, err)
		}
		d.tls.RootCAs = x509.NewCertPool()
		if !d.tls.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("directory %s: ca: %s: expected certificates in PEM", cfg.Name, cfg.CA)
		}
	}
	for key, filter := range map[string]string{"filter": strings.ReplaceAll(cfg.Filter, "{user}", "x"), "groups.filter": strings.ReplaceAll(cfg.GroupFilter, "{dn}", "x")} {
		if _, err := ldap.CompileFilter(filter); err != nil {
			return nil, fmt.Errorf("directory %s: %s: expected an LDAP filter (RFC 4515): %w", cfg.Name, key, err)
		}
	}
	if _, err := d.password(); err != nil {
		return nil, fmt.Errorf("directory %s: password_file: %w", cfg.Name, err)
	}
	return d, nil
}

func (d *Directory) password() (string, error) {
	if d.cfg.PasswordFile == "" {
		return "", nil
	}
	b, err := secretfile.Read(d.cfg.PasswordFile, 4<<10)
	return strings.TrimRight(string(b), "\r\n"), err
}

// Login judges a name and a password. The error is ErrRefused or ErrTooMany, or says that the directory could not be asked. It
// blocks while the directory is asked, for 5 s at most, or until ctx ends.
func (d *Directory) Login(ctx context.Context, name, password string) (*User, error) {
	// An empty password is an unauthenticated bind, which directories take (RFC 4513 §5.1.2).
	if name == "" || password == "" || len(name) > maxName || len(password) > maxPassword || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return nil, ErrRefused
	}
	sum := d.sum(name, password)
	if user := d.remembered(sum); user != nil {
		return user, nil
	}
	if !d.tries.Take(limit.Key{Name: strings.ToLower(name)}, attempts, time.Now()).OK {
		return nil, ErrTooMany
	}
	select {
	case d.room <- struct{}{}:
		defer func() { <-d.room }()
	default:
		return nil, fmt.Errorf("directory %s: %d logins are under way", d.cfg.Name, maxAsking)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	user, err := d.ask(ctx, name, password)
	if err != nil {
		if errors.Is(err, ErrRefused) {
			return nil, err
		}
		return nil, fmt.Errorf("directory %s: %w", d.cfg.Name, err)
	}
	d.remember(sum, user)
	return user, nil
}

func (d *Directory) sum(name, password string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, d.key[:])
	fmt.Fprintf(mac, "%d %s %s", len(name), name, password)
	return [sha256.Size]byte(mac.Sum(nil))
}

func (d *Directory) remembered(sum [sha256.Size]byte) *User {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, ok := d.young[sum]
	if !ok {
		k, ok = d.old[sum]
	}
	if !ok || time.Now().After(k.until) {
		return nil
	}
	return k.user
}

func (d *Directory) remember(sum [sha256.Size]byte, user *User) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.young) >= maxKnown {
		d.old, d.young = d.young, make(map[[sha256.Size]byte]known)
	}
	d.young[sum] = known{user, time.Now().Add(d.cfg.Cache)}
}

// ask searches for the user, and binds as it.
func (d *Directory) ask(ctx context.Context, name, password string) (*User, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // what matters was said
	if err := d.bindSearcher(conn); err != nil {
		return nil, err
	}
	attributes := []string{"cn"}
	if d.cfg.GroupBase == "" {
		attributes = []string{d.cfg.GroupAttribute}
	}
	entry, err := d.find(conn, strings.ReplaceAll(d.cfg.Filter, "{user}", ldap.EscapeFilter(name)), attributes)
	if err != nil {
		return nil, err
	}
	if err := conn.Bind(entry.DN, password); err != nil {
		if ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultInappropriateAuthentication,
			ldap.LDAPResultConstraintViolation) { // the last three are what locked and disabled accounts say
			return nil, ErrRefused
		}
		return nil, fmt.Errorf("binding as the user: %w", err)
	}
	user := &User{Directory: d.cfg.Name, Name: name}
	user.Groups, err = d.groups(conn, entry)
	return user, err
}

// connect reaches the directory through its tunnel, and has TLS with it.
func (d *Directory) connect(ctx context.Context) (*ldap.Conn, error) {
	raw, err := d.dial(ctx, protocol.TCP, d.cfg.Tunnel)
	if err != nil {
		return nil, fmt.Errorf("reaching it through tunnel %s: %w", d.cfg.Tunnel, err)
	}
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if d.cfg.StartTLS {
		conn := ldap.NewConn(raw, false)
		conn.Start()
		if err := conn.StartTLS(d.tls); err != nil {
			return nil, errors.Join(fmt.Errorf("starting TLS: %w", err), conn.Close())
		}
		return conn, nil
	}
	secured := tls.Client(raw, d.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS handshake: %w", err), raw.Close())
	}
	conn := ldap.NewConn(secured, true)
	conn.Start()
	return conn, nil
}

func (d *Directory) bindSearcher(conn *ldap.Conn) error {
	if d.cfg.BindDN == "" {
		return nil
	}
	password, err := d.password()
	if err == nil {
		err = conn.Bind(d.cfg.BindDN, password)
	}
	if err != nil {
		return fmt.Errorf("binding to search: %w", err)
	}
	return nil
}

// find returns the one entry that the filter finds. None, or several, is ErrRefused: nobody can log in as two.
func (d *Directory) find(conn *ldap.Conn, filter string, attributes []string) (*ldap.Entry, error) {
	found, err := conn.Search(ldap.NewSearchRequest(d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, int(askTimeout.Seconds()), false, filter, attributes, nil))
	if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || err == nil && len(found.Entries) != 1 {
		return nil, ErrRefused
	}
	if err != nil {
		return nil, fmt.Errorf("searching for the user: %w", err)
	}
	return found.Entries[0], nil
}

// groups are those of the user's entry; the connection is bound as the user, or, to search for them, as the searcher again.
func (d *Directory) groups(conn *ldap.Conn, entry *ldap.Entry) ([]string, error) {
	var names []string
	if d.cfg.GroupBase == "" {
		for _, value := range entry.GetAttributeValues(d.cfg.GroupAttribute) {
			names = append(names, commonName(value))
		}
		return bounded(names), nil
	}
	if err := d.bindSearcher(conn); err != nil {
		return nil, err
	}
	filter := strings.ReplaceAll(d.cfg.GroupFilter, "{dn}", ldap.EscapeFilter(entry.DN))
	found, err := conn.Search(ldap.NewSearchRequest(d.cfg.GroupBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxGroups, int(askTimeout.Seconds()), false, filter, []string{"cn"}, nil))
	if err != nil {
		return nil, fmt.Errorf("searching for the user's groups: %w", err)
	}
	for _, group := range found.Entries {
		names = append(names, cmp.Or(group.GetAttributeValue("cn"), group.DN))
	}
	return bounded(names), nil
}

// commonName is the cn that a distinguished name begins with; any other value stays as it is.
func commonName(value string) string {
	dn, err := ldap.ParseDN(value)
	if err != nil || len(dn.RDNs) == 0 || len(dn.RDNs[0].Attributes) != 1 || !strings.EqualFold(dn.RDNs[0].Attributes[0].Type, "cn") {
		return value
	}
	return dn.RDNs[0].Attributes[0].Value
}

func bounded(names []string) []string {
	slices.Sort(names)
	return names[:min(len(names), maxGroups)]
}
