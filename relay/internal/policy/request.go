package policy

import (
	"crypto/tls"
	"net/http"
	"net/netip"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

// A Request is what the gate is told of one call. The gate keeps none of it, and changes nothing.
type Request struct {
	Network protocol.Network // HTTP for an ordinary request, TCP for a CONNECT, UDP for an upgrade to connect-udp
	Host    string           // Host, :authority or the CONNECT target as it came: any case, with or without a port
	Method  string
	Scheme  string // by which the caller has come: https, or http at a local door
	// Path is the path as it was sent, still escaped (url.URL.EscapedPath), without the query; "" for a CONNECT. The
	// gate decodes it itself, once, and refuses what two readers could take for two paths.
	Path     string
	RawQuery string // as it was sent, without the question mark
	Header   http.Header
	Peer     *authn.Peer // the connection's proof; nil: none, as at a local door
	// Curve is the key agreement of the connection; zero at a local door.
	Curve tls.CurveID
	// As is whom a caller at a local door acts for, Listen.As of its tunnel; zero on every other connection.
	As certs.ID
	// Assumed, of an explanation, is what counts as proved; nil of every call.
	Assumed *Assumed
	// Tunnel is set at a local door, which leads to one tunnel whatever the Host says; "" on every other connection.
	Tunnel protocol.TunnelName
	Source netip.Addr // the caller's address, PROXY v2's where that is believed; the zero Addr at a local door
	Proxy  bool       // the caller takes the relay for a proxy (CONNECT): its token may be in Proxy-Authorization
}
