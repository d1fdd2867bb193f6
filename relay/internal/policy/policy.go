// Package policy decides whether a call may pass: its Gate asks the rules of one relay.yaml, in the order that keeps
// tunnels from being listed by those who may not call them.
//
// It does not forward, limit or audit anything, and does not write the HTTP answer. It is the only importer of CEL.
package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// Tokens verifies access tokens: *bearer.Verifier, whose errors these are.
type Tokens interface {
	VerifyFrom(ctx context.Context, issuer, raw string) (*bearer.Token, error)
}

// Proofs takes DPoP proofs, each once: *bearer.Proofs, whose errors these are.
type Proofs interface {
	Check(raw string, to bearer.ProofTarget, now time.Time) error
}

// Config makes a Gate.
type Config struct {
	Table  *tunnel.Table // required
	Source certs.Source  // required, comparable: judges SVIDs
	// Banned says whether an identity is, by an error that is logged and never shown; nil: nobody is.
	Banned func(certs.Identity) error
	// RequirePQ refuses callers whose connection has no post-quantum key agreement, before anything else. It does not
	// concern local doors.
	RequirePQ bool
	Tokens    Tokens     // may be nil where no tunnel wants a token
	Proofs    Proofs     // remembers what was taken, and so outlives the Gate; nil: no token that is bound by DPoP is taken
	Apps      authn.Apps // by client id
	// Directories are by name; those that a tunnel names must be there. Codes are by the name of a RADIUS server, those of the file
	// `totp` by "". Factors remembers
	// who has shown one, and so outlives the Gate.
	Directories map[string]Directory
	Codes       map[string]Codes
	Factors     *login.Remembered
	Now         func() time.Time // default time.Now
	Version     string           // of the configuration, for whoever reads decisions
}

// A Gate decides by one state of the configuration. It does not change, and is safe for concurrent use; a reload makes
// another one.
type Gate struct {
	table       *tunnel.Table
	source      certs.Source
	banned      func(certs.Identity) error
	pq          bool
	tokens      Tokens
	proofs      Proofs
	apps        authn.Apps
	directories map[string]Directory
	codes       map[string]Codes
	factors     *login.Remembered
	now         func() time.Time
	version     string
	allows      map[*tunnel.Tunnel]*Allow
}

// New compiles the expression of every tunnel; a fault in any of them is an error that names the tunnel.
func New(c Config) (*Gate, error) {
	if c.Table == nil || c.Source == nil {
		return nil, errors.New("policy: a table and a source are expected")
	}
	g := &Gate{table: c.Table, source: c.Source, banned: c.Banned, pq: c.RequirePQ, tokens: c.Tokens, proofs: c.Proofs, apps: c.Apps, directories: c.Directories, codes: c.Codes, factors: c.Factors, now: c.Now, version: c.Version, allows: make(map[*tunnel.Tunnel]*Allow)}
	if g.now == nil {
		g.now = time.Now
	}
	if g.factors == nil {
		g.factors = new(login.Remembered)
	}
	if g.banned == nil {
		g.banned = func(certs.Identity) error { return nil }
	}
	var faults []error
	for _, t := range c.Table.All() {
		for need := range t.Authenticate.Each() {
			if need.Token != nil && c.Tokens == nil {
				faults = append(faults, fmt.Errorf("tunnel %s: a token is wanted, and nothing verifies tokens", t.Name))
			}
			if need.User != nil && c.Directories[need.User.Directory] == nil {
				faults = append(faults, fmt.Errorf("tunnel %s: a user of directory %s is wanted, and there is none of that name", t.Name, need.User.Directory))
			}
			if need.Code != nil && c.Codes[need.Code.Server] == nil {
				faults = append(faults, fmt.Errorf("tunnel %s: a second factor is wanted, and nothing of the name %q checks codes", t.Name, need.Code.Server))
			}
		}
		if t.Allow == "" {
			continue
		}
		allow, err := Compile(t.Allow)
		if err != nil {
			faults = append(faults, fmt.Errorf("tunnel %s: allow: %w", t.Name, err))
			continue
		}
		g.allows[t] = allow
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return g, nil
}
