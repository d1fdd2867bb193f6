package policy

import (
	"net/http"
	"net/netip"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

// A Request is what the gate is told of one call. The gate keeps none of it, and changes nothing.
type Request struct {
	Network protocol.Network // HTTP for an ordinary request, TCP for a CONNECT
	Host    string           // Host, :authority or the CONNECT target as it came: any case, with or without a port
	Method  string
	// Path is the path as it was sent, still escaped (url.URL.EscapedPath), without the query; "" for a CONNECT. The
	// gate decodes it itself, once, and refuses what two readers could take for two paths.
	Path     string
	RawQuery string // as it was sent, without the question mark
	Header   http.Header
	Peer     *authn.Peer // the connection's proof; nil: none, as on a unix socket
	// As is whom a caller on a unix socket acts for, Listen.As of its tunnel; zero on every other connection.
	As certs.ID
	// Tunnel is set on a unix socket, which leads to one tunnel whatever the Host says; "" on every other connection.
	Tunnel protocol.TunnelName
	Source netip.Addr // the caller's address, PROXY v2's where that is believed; the zero Addr on a unix socket
	Proxy  bool       // the caller takes the relay for a proxy (CONNECT): its token may be in Proxy-Authorization
}
