package policy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

// identify proves the caller. One that has shown no certificate goes on as nobody: locate decides whether that is
// enough. One that has shown a bad certificate goes no further, so that it learns of it.
func (t *trial) identify() *protocol.Error {
	t.decision.Rule = RuleSVID
	switch r := t.request; {
	case r.Assumed != nil && r.Assumed.Caller.IsZero():
		return nil
	case r.Assumed != nil:
		t.decision.Principal.Caller = r.Assumed.Caller
		return t.checkBan(certs.Identity{ID: r.Assumed.Caller})
	case !r.As.IsZero():
		t.decision.Principal.Caller = r.As
		return t.checkBan(certs.Identity{ID: r.As})
	case t.pq && !certs.PostQuantum(r.Curve):
		return protocol.Errorf(protocol.CallerDenied, "a post-quantum key agreement such as %s is expected, the connection has %s", tls.X25519MLKEM768, r.Curve)
	case !r.Peer.Shown():
		return nil
	}
	identity, err := t.request.Peer.Identity(t.source, t.now)
	if err != nil {
		return refuseSVID(err)
	}
	t.decision.Principal.Caller = identity.ID
	return t.checkBan(identity)
}

func (t *trial) checkBan(identity certs.Identity) *protocol.Error {
	if err := t.banned(identity); err != nil {
		return protocol.Errorf(protocol.CallerDenied, "the caller's identity is banned").WithCause(err)
	}
	return nil
}

// refuseSVID says what is wrong with the caller's own certificate, but not which trust domains the relay knows.
func refuseSVID(err error) *protocol.Error {
	refused, ok := errors.AsType[*certs.VerifyError](err)
	switch {
	case !ok, refused.Reason == certs.ReasonUnknownTrustDomain && !errors.Is(err, certs.ErrUnknownTrustDomain):
		return protocol.Errorf(protocol.IdentityUnavailable, "the client certificate cannot be verified now").WithCause(err)
	case refused.Reason == certs.ReasonUnknownTrustDomain, refused.Reason == certs.ReasonUntrusted:
		return protocol.Errorf(protocol.CallerUnknown, "the client certificate is not one that this relay trusts").WithCause(err)
	}
	return protocol.Errorf(protocol.CallerUnknown, "the client certificate is refused: %s", refused.Reason).WithCause(err)
}

// checkSource asks whether the tunnel may be called from there. A local door has no source: whoever reaches it is here.
func (t *trial) checkSource() *protocol.Error {
	sources := t.decision.Tunnel.Sources
	if len(sources) == 0 || !t.request.As.IsZero() {
		return nil
	}
	t.decision.Rule = RuleSources
	source := t.request.Source.Unmap().WithZone("")
	if !source.IsValid() || !slices.ContainsFunc(sources, func(p netip.Prefix) bool { return p.Contains(source) }) {
		return protocol.Errorf(protocol.SourceDenied, "this tunnel may not be called from this address")
	}
	return nil
}

// checkCaller asks whether the tunnel lets this caller in. Only a caller that locate let see the tunnel comes here.
func (t *trial) checkCaller() *protocol.Error {
	t.decision.Rule = RuleCallers
	tun := t.decision.Tunnel
	if caller := t.decision.Principal.Caller; !tun.AnyCaller && !tun.Callers.Match(caller) {
		return protocol.Errorf(protocol.CallerDenied, "%s may not call this tunnel", caller)
	}
	return nil
}
