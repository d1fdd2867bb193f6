package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/control"
)

// enrollTimeout bounds an enrolment.
const enrollTimeout = 30 * time.Second

// Enroll uses a token up by another relay, host:port, that has the authority behind it. The key is made here. The other relay
// is believed once its SVID chains to a root with the token's fingerprint.
func Enroll(ctx context.Context, address string, token *authority.Token) (*authority.Issued, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("expected host:port of a relay: %w", err)
	}
	d := &tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: host, NextProtos: []string{protocol.ALPNEnroll},
		InsecureSkipVerify:     true, //nolint:gosec // Bootstrap verifies what was shown, once it knows the authority
		SessionTicketsDisabled: true,
	}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn)
	defer func() { _ = conn.Close() }() // nothing is under way
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	return authority.Bootstrap(ctx, func(_ context.Context, request []byte) ([]byte, error) {
		return control.AskOn(conn, request)
	}, token, func() []*x509.Certificate { return conn.ConnectionState().PeerCertificates })
}
