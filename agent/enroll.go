package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/agent/internal/enroll"
	"github.com/fairlead/fairlead/agent/internal/uplink"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/enrolled"
	"github.com/fairlead/fairlead/certs/secretfile"
)

// EnrollConfig says where an enrolment goes and what it brings along.
type EnrollConfig struct {
	File  string    // agent.yaml: its relays, proxy and identity.enrolled stand in for what is left out here; "": there is none
	Relay string    // host:port; "": the file's, one after the other
	Dir   string    // where the identity goes; "": the file's identity.enrolled
	Token io.Reader // the token's text, read to its end
}

// Enrolment is what Enroll brought.
type Enrolment struct {
	ID       string
	NotAfter time.Time
	Dir      string
}

// maxToken is in bytes.
const maxToken = 8 << 10

// ReadToken opens a token's file: "-" is standard input.
func ReadToken(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	if err := secretfile.Check(path); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Enroll uses a token up for an identity, which it writes.
func Enroll(ctx context.Context, c EnrollConfig) (*Enrolment, error) {
	text, err := io.ReadAll(io.LimitReader(c.Token, maxToken))
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", err)
	}
	token, err := authority.ParseToken(string(text))
	if err != nil {
		return nil, err
	}
	relays := []string{c.Relay}
	l := &loaded{file: new(config.Agent)}
	if c.File != "" {
		if l.file, err = config.Load(c.File); err != nil {
			return nil, err
		}
		if c.Relay == "" {
			relays = l.file.Relays
		}
		if c.Dir == "" {
			c.Dir = l.file.Identity.Enrolled
		}
	}
	if relays[0] == "" {
		return nil, errors.New("expected a relay, or a configuration with relays")
	}
	if c.Dir == "" {
		return nil, errors.New("expected a folder for the identity, or a configuration with identity.enrolled")
	}
	l.file.Relays = relays
	if err := l.wayOut(); err != nil {
		return nil, err
	}
	issued, err := enrolByAny(ctx, relays, token, l.dial)
	if err != nil {
		return nil, err
	}
	if err := enrolled.Write(c.Dir, issued); err != nil {
		return nil, fmt.Errorf("the identity was issued and could not be written, which takes another token: %w", err)
	}
	return &Enrolment{token.ID.String(), issued.Certificate.Leaf.NotAfter, c.Dir}, nil
}

// enrolByAny tries one relay after the other; the authority's refusal counts for all of them.
func enrolByAny(ctx context.Context, relays []string, token *authority.Token, dial uplink.DialTCP) (*authority.Issued, error) {
	var faults []error
	for _, relay := range relays {
		issued, err := enroll.Run(ctx, relay, token, dial)
		if err == nil {
			return issued, nil
		}
		if _, refused := errors.AsType[*authority.Refusal](err); refused {
			return nil, err
		}
		faults = append(faults, fmt.Errorf("enrolling by %s: %w", relay, err))
	}
	return nil, errors.Join(faults...)
}
