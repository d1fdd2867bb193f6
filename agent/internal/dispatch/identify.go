package dispatch

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
)

// Signer signs transaction tokens: *bearer.TxnSigner.
type Signer interface {
	Sign(t *bearer.TxnToken, now time.Time) (string, error)
}

// headerTxnToken is where a backend finds its transaction token.
const headerTxnToken = "Txn-Token"

// identify tells the backend who calls. Whatever came under these names is gone, also what the relay has set: a relay that was
// taken over says nothing here that its grant does not.
func (x *exchange) identify(h http.Header) error {
	for name := range h {
		if strings.HasPrefix(name, "Fairlead-") || name == headerTxnToken {
			delete(h, name)
		}
	}
	g, how := x.report.Grant, x.tunnel.cfg.Identify
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set("Fairlead-Call-Id", visible(x.open.CallID))
	set("Fairlead-Tunnel", string(x.open.Tunnel))
	if !g.Caller.IsZero() {
		set("Fairlead-Caller", g.Caller.String())
	}
	if how.Headers {
		set("Fairlead-App", visible(g.App))
		set("Fairlead-User", visible(g.User))
		set("Fairlead-User-Issuer", visible(g.Issuer))
		set("Fairlead-Scopes", visible(strings.Join(g.Scopes, " ")))
		set("Fairlead-Groups", visibleList(g.Groups))
	}
	if how.TxnToken == "" {
		return nil
	}
	token, err := x.d.cfg.Signer.Sign(x.txnToken(), time.Now())
	if err != nil {
		return protocol.Errorf(protocol.IdentityUnavailable, "the agent cannot sign who calls now").WithCause(err)
	}
	h[headerTxnToken] = []string{token}
	return nil
}

// txnToken is what the transaction token says.
func (x *exchange) txnToken() *bearer.TxnToken {
	g := x.report.Grant
	t := &bearer.TxnToken{Audience: x.tunnel.cfg.Identify.TxnToken, Transaction: x.open.CallID, Subject: g.User, Scope: strings.Join(g.Scopes, " "),
		Context: map[string]any{"tunnel": string(x.open.Tunnel), "method": x.open.Method, "path": x.open.Path}, Requester: map[string]any{}}
	if !g.Caller.IsZero() {
		t.Workload = g.Caller.String()
	}
	for _, name := range []string{t.Workload, g.App, "anonymous"} {
		if t.Subject == "" {
			t.Subject = name
		}
	}
	for name, text := range map[string]string{"sub_iss": g.Issuer, "app": g.App, "acr": g.ACR, "source": x.open.Source} {
		if text != "" {
			t.Requester[name] = text
		}
	}
	for name, list := range map[string][]string{"amr": g.AMR, "groups": g.Groups} {
		if len(list) > 0 {
			t.Requester[name] = list
		}
	}
	return t
}

// visible writes what is not visible ASCII, and "%", as %XX: a header can carry the rest.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '%' }) {
		return s
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// visibleList joins by commas, which within an entry are written as %2C.
func visibleList(list []string) string {
	entries := make([]string, len(list))
	for i, s := range list {
		entries[i] = strings.ReplaceAll(visible(s), ",", "%2C")
	}
	return strings.Join(entries, ",")
}

// Types of the PROXY protocol's TLVs (proxy-protocol.txt §2.2): 0xE0 to 0xEF are for an application's own.
const (
	tlvUniqueID = 0x05
	tlvSPIFFEID = 0xE0
	tlvUser     = 0xE1
)

// proxyHeader is the PROXY protocol's header of version 2, with the caller's address as the source. The destination's address,
// which the caller does not know, is left zero.
func (c *call) proxyHeader() []byte {
	g := c.report.Grant
	source, err := netip.ParseAddrPort(c.open.Source)
	var addresses []byte
	family := byte(0x00) // unspecified: the source is not known
	switch addr := source.Addr().Unmap().WithZone(""); {
	case err != nil:
	case addr.Is4():
		family = 0x11 // TCP over IPv4
		addresses = append(addr.AsSlice(), 0, 0, 0, 0)
		addresses = binary.BigEndian.AppendUint16(addresses, source.Port())
		addresses = append(addresses, 0, 0)
	default:
		family = 0x21 // TCP over IPv6
		addresses = append(addr.AsSlice(), make([]byte, 16)...)
		addresses = binary.BigEndian.AppendUint16(addresses, source.Port())
		addresses = append(addresses, 0, 0)
	}
	tlv := func(kind byte, value string) {
		if value == "" || len(value) > 2048 {
			return
		}
		addresses = binary.BigEndian.AppendUint16(append(addresses, kind), uint16(len(value))) //nolint:gosec // at most 2,048
		addresses = append(addresses, value...)
	}
	tlv(tlvUniqueID, c.open.CallID)
	if !g.Caller.IsZero() {
		tlv(tlvSPIFFEID, g.Caller.String())
	}
	tlv(tlvUser, g.User)
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(addresses))) //nolint:gosec // three TLVs of at most 2 KiB
	return append(h, addresses...)
}
