package policy

import (
	"fmt"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// locate finds the tunnel, as far as this caller may know of it. Every way of not finding one is told in the same
// words: without an SVID those of caller_unknown, with one those of unknown_tunnel.
func (t *trial) locate() *protocol.Error {
	t.decision.Rule = RuleTunnel
	tun, ok := t.find()
	if t.decision.Principal.Caller.IsZero() {
		if !ok || !tun.AnyCaller {
			t.decision.Rule = RuleSVID
			return protocol.Errorf(protocol.CallerUnknown, "a client certificate with a SPIFFE ID is expected")
		}
		t.decision.Tunnel = tun
		return nil
	}
	if !ok {
		return unknownTunnel()
	}
	if td := t.decision.Principal.Caller.TrustDomain(); !tun.Admits(td) {
		t.decision.Rule = RuleTrustDomain
		return unknownTunnel().WithCause(fmt.Errorf("tunnel %s names trust domain %s in no rule", tun.Name, td))
	}
	t.decision.Tunnel = tun
	return nil
}

func unknownTunnel() *protocol.Error {
	return protocol.Errorf(protocol.UnknownTunnel, "there is no tunnel for this host and path")
}

// find looks for the request's tunnel, and where there is none for one that its host has with the other protocol, which
// checkProtocol refuses in its turn. A caller without an SVID finds only what admits callers without one.
func (t *trial) find() (*tunnel.Tunnel, bool) {
	r := t.request
	if r.Tunnel != "" {
		tun, ok := t.table.Named(r.Tunnel)
		return tun, ok && (tun.Network != r.Network || tun.Covers(t.path))
	}
	look := t.table.Find
	if t.decision.Principal.Caller.IsZero() {
		look = t.table.FindAny
	}
	if tun, ok := look(r.Network, r.Host, t.path); ok {
		return tun, true
	}
	return t.findOther()
}

// findOther prefers what the caller may know of.
func (t *trial) findOther() (*tunnel.Tunnel, bool) {
	var found *tunnel.Tunnel
	for _, other := range []protocol.Network{protocol.HTTP, protocol.TCP, protocol.UDP} {
		if other == t.request.Network {
			continue
		}
		for _, tun := range t.table.At(other, t.request.Host) {
			switch caller := t.decision.Principal.Caller; {
			case tun.AnyCaller, tun.Callers.Match(caller):
				return tun, true
			case found == nil || !found.Admits(caller.TrustDomain()):
				found = tun
			}
		}
	}
	return found, found != nil
}

// checkProtocol comes after the caller's identity was found good for the tunnel, so that the answer lists nothing.
func (t *trial) checkProtocol() *protocol.Error {
	t.decision.Rule = RuleProtocol
	switch t.decision.Tunnel.Network {
	case t.request.Network:
		return nil
	case protocol.HTTP:
		return protocol.Errorf(protocol.MethodNotAllowed, "this tunnel takes ordinary HTTP requests, not CONNECT")
	case protocol.UDP:
		return protocol.Errorf(protocol.MethodNotAllowed, "this tunnel takes UDP flows only: an upgrade to connect-udp")
	default:
		return protocol.Errorf(protocol.MethodNotAllowed, "this tunnel takes CONNECT only")
	}
}
