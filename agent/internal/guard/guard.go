// Package guard is the agent's own say in every call: the rules of its own file, checked after the relay has decided
// and before a backend is touched. A relay that was taken over can ask for no more than these rules give.
//
// It does not know how a backend is reached, reads no configuration, and believes the relay in one thing only: the
// identity of the caller, which the link authenticates.
package guard

import (
	"net/http"
	"slices"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

// Rules are what one tunnel of the agent's file allows. The zero value allows nothing, since it carries no network.
type Rules struct {
	Tunnel protocol.TunnelName
	// Networks are what the tunnel's backend can carry.
	Networks []protocol.Network
	// Callers are the identities that may call; empty: whoever the relay lets through.
	Callers certs.Patterns
	// Methods are the HTTP methods that may be used, in capitals; empty: any.
	Methods []string
	// Paths are the HTTP paths that may be asked for; empty: any, and then paths are not normalised either.
	Paths []PathPattern
}

// Admit judges a call by its Open alone. The error is a *protocol.Error with AgentDenied, from before the backend is
// touched.
func (r *Rules) Admit(open *protocol.Open) error {
	if !slices.Contains(r.Networks, open.Network) {
		return protocol.Errorf(protocol.AgentDenied, "the agent's tunnel does not carry %s", open.Network)
	}
	if err := r.admitCaller(open.Caller); err != nil {
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

func (r *Rules) admitCaller(caller string) error {
	if len(r.Callers) == 0 {
		return nil
	}
	if caller == "" {
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules want a caller with an identity")
	}
	id, err := certs.ParseID(caller)
	if err != nil {
		return protocol.Errorf(protocol.AgentDenied, "the agent cannot read the caller's identity").WithCause(err)
	}
	if !r.Callers.Match(id) {
		return protocol.Errorf(protocol.AgentDenied, "the agent's rules do not allow this caller")
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
