// Package enroll takes a token to a relay and brings an identity back: once, before the agent's first start, and again where
// the agent was off for longer than its SVID lived. Renewal is package enrolled's.
package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/control"
)

// timeout bounds the whole enrolment.
const timeout = 30 * time.Second

// Run enrols by a relay, host:port, which dial reaches. The key is made here and does not leave. The relay is believed once
// its SVID chains to a root with the token's fingerprint; before that it hears nothing of the token.
func Run(ctx context.Context, relay string, token *authority.Token, dial func(ctx context.Context, address string) (net.Conn, error)) (*authority.Issued, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	host, _, err := net.SplitHostPort(relay)
	if err != nil {
		return nil, fmt.Errorf("expected host:port of a relay: %w", err)
	}
	raw, err := dial(ctx, relay)
	if err != nil {
		return nil, fmt.Errorf("dialing %s: %w", relay, err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: host, NextProtos: []string{protocol.ALPNEnroll},
		InsecureSkipVerify:     true, //nolint:gosec // Bootstrap verifies what was shown, once it knows the authority
		SessionTicketsDisabled: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shaking hands with %s: %w", relay, err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != protocol.ALPNEnroll {
		return nil, fmt.Errorf("%s speaks no %s: it is no relay, or something in between ends TLS", relay, protocol.ALPNEnroll)
	}
	issued, err := authority.Bootstrap(ctx, func(_ context.Context, request []byte) ([]byte, error) {
		return control.AskOn(conn, request)
	}, token, func() []*x509.Certificate { return conn.ConnectionState().PeerCertificates })
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return issued, err
}
