// Package guard is the agent's own say in every call: the rules of its own file, checked after the relay has decided
// and before a backend is touched. A relay that was taken over can ask for no more than these rules give, and at a tunnel
// that wants the caller's own token for nothing without one.
//
// It does not know how a backend is reached, reads no configuration, and believes the relay in one thing only: who the
// caller is, as far as the relay's grant says.
package guard

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

// Rules are what one tunnel of the agent's file allows. The zero value allows nothing, since it carries no network.
type Rules struct {
	Tunnel protocol.TunnelName
	// Networks are what the tunnel's backend can carry.
	Networks []protocol.Network
	// Callers are the identities that may call; empty: whoever the relay lets through.
	Callers certs.Patterns
	// Token is what the caller's own token must be; nil: none is looked at.
	Token *TokenRule
	// Methods are the HTTP methods that may be used, in capitals; empty: any.
	Methods []string
	// Paths are the HTTP paths that may be asked for; empty: any, and then paths are not normalised either.
	Paths []PathPattern
}

// A TokenRule is what the caller's own token must be, by the agent's own judgement.
type TokenRule struct {
	Issuer string   // the only one whose tokens count, to the letter
	Scopes []string // which must all be in it
}

// Tokens verifies tokens: *bearer.Verifier, whose errors these are.
type Tokens interface {
	Verify(ctx context.Context, raw string) (*bearer.Token, error)
}

// Admit judges a call by its Open, whose grant has held, and where the rules want one by its token. The error is a
// *protocol.Error with AgentDenied (IdentityUnavailable where a token cannot be judged now), from before the backend is
// touched. It blocks only where verifying the token does.
func (r *Rules) Admit(ctx context.Context, open *protocol.Open, g *grant.Grant, tokens Tokens) error {
	if err := r.Allow(open, g); err != nil {
		return err
	}
	return r.admitToken(ctx, open.Token, g, tokens)
}

// Allow is Admit without the token: what a call that runs is judged by again when the rules have changed.
func (r *Rules) Allow(open *protocol.Open, g *grant.Grant) error {
	if !slices.Contains(r.Networks, open.Network) {
		return protocol.Errorf(protocol.AgentDenied, "the agent's tunnel does not carry %s", open.Network)
	}
	if err := r.admitCaller(g.Caller); err != nil {
		return err
	}
	if open.Network != protocol.HTTP {
		return nil
	}
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, open.Method) {
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules do not allow this method")
	}
	return r.admitPath(open.Path)
}

func (r *Rules) admitCaller(caller certs.ID) error {
	switch {
	case len(r.Callers) == 0:
		return nil
	case caller.IsZero():
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules want a caller with an identity")
	case !r.Callers.Match(caller):
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules do not allow this caller")
	}
	return nil
}

// admitToken does not believe the relay that there was a user. That a token bound to its sender (cnf) came from that
// sender only the relay can see.
func (r *Rules) admitToken(ctx context.Context, raw string, g *grant.Grant, tokens Tokens) error {
	if r.Token == nil {
		return nil
	}
	if raw == "" || tokens == nil {
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules want the caller's own token, of issuer %s", r.Token.Issuer)
	}
	token, err := tokens.Verify(ctx, raw)
	if invalid, ok := errors.AsType[*bearer.InvalidError](err); ok {
		return protocol.Errorf(protocol.AgentDenied, "the agent refuses the token: %s", invalid.Detail).WithCause(err)
	}
	if err != nil {
		return protocol.Errorf(protocol.IdentityUnavailable, "the agent cannot verify the token now").WithCause(err)
	}
	if token.Issuer != r.Token.Issuer {
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules want a token of issuer %s", r.Token.Issuer)
	}
	if g.User != "" && g.Issuer == token.Issuer && g.User != token.Subject {
		return protocol.Errorf(protocol.AgentDenied, "the token is another user's than the relay's grant says")
	}
	var lacks []string
	for _, scope := range r.Token.Scopes {
		if !slices.Contains(token.Scopes, scope) {
			lacks = append(lacks, scope)
		}
	}
	if lacks != nil {
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules want scope %s", strings.Join(lacks, " "))
	}
	return nil
}

func (r *Rules) admitPath(path string) error {
	if len(r.Paths) == 0 {
		return nil
	}
	segments, err := splitPath(path)
	if err != nil {
		return protocol.Errorf(protocol.AgentDenied, "the agent refuses an ambiguous path").WithCause(err)
	}
	for _, p := range r.Paths {
		if p.match(segments) {
			return nil
		}
	}
	return protocol.Errorf(protocol.AgentDenied, "the agent's rules do not allow this path")
}

// SameRequest checks that the request on the stream is the one that Open announced and the rules admitted: the same
// method, and byte for byte the same escaped path. It refuses every request target that is not a path (CONNECT, the
// absolute form, "*"), so that a request can never name another destination.
func SameRequest(open *protocol.Open, req *http.Request) error {
	switch {
	case req.Method == http.MethodConnect:
		return protocol.Errorf(protocol.MethodNotAllowed, "CONNECT is not for this tunnel")
	case len(req.RequestURI) == 0 || req.RequestURI[0] != '/':
		return protocol.Errorf(protocol.BadRequest, "the request target is not a path")
	case req.Method != open.Method:
		return protocol.Errorf(protocol.BadRequest, "the request's method is not the one that was announced")
	case req.URL.EscapedPath() != open.Path:
		return protocol.Errorf(protocol.BadRequest, "the request's path is not the one that was announced")
	}
	return nil
}
