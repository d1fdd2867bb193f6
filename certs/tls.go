package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Every config below speaks TLS 1.3 only, with Go's own order of curves, which begins with X25519MLKEM768. None of them
// resumes a session: on resumption Go does not ask for the certificate again, and a peer that has since been refused
// would be back.

// AnyID authorizes every identity that verified.
func AnyID(ID) error { return nil }

// ClientConfig is the config of a process that dials a relay: it shows the SVID of src, and accepts a server whose SVID
// verifies and whose ID authorize takes; DNS names in the server's certificate do not matter. serverName is only what
// the hello says (SNI). The Source is asked at every handshake. A nil authorize refuses everybody.
//
// A refusal is a *VerifyError out of the handshake.
func ClientConfig(src Source, serverName string, alpn []string, authorize func(ID) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		NextProtos: alpn,
		// Go's check wants a DNS name, which an SVID need not have: VerifyConnection does the whole job, and Go
		// runs it on every handshake.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   verifyConnection(src, x509.ExtKeyUsageServerAuth, authorize),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return src.Certificate()
		},
		SessionTicketsDisabled: true,
	}
}

// ServerConfig is the config of a relay towards agents and other relays: it shows the SVID of src and demands a client
// whose SVID verifies and whose ID authorize takes. The Source is asked at every handshake. A nil authorize refuses
// everybody. A client is told by an alert, which it sees at its first read; on this side the handshake returns a
// *VerifyError.
func ServerConfig(src Source, alpn []string, authorize func(ID) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		// Not RequireAndVerify: that takes one pool of roots for everybody, and an ID must be checked against the
		// bundle of its own trust domain alone.
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection:       verifyConnection(src, x509.ExtKeyUsageClientAuth, authorize),
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return src.Certificate() },
		SessionTicketsDisabled: true,
	}
}

// CallerConfig is the config of a relay towards callers: it shows what server returns, or the SVID of src where server
// is nil, and asks for a client certificate without judging it. Whoever serves the connection calls Verify with
// ConnectionState().PeerCertificates; the handshake has then only proved that the caller holds the leaf's key.
func CallerConfig(src Source, server func() (*tls.Certificate, error), alpn []string) *tls.Config {
	if server == nil {
		server = src.Certificate
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             alpn,
		ClientAuth:             tls.RequestClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return server() },
		SessionTicketsDisabled: true,
	}
}

func verifyConnection(src Source, usage x509.ExtKeyUsage, authorize func(ID) error) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if state.DidResume {
			return &VerifyError{Reason: ReasonDenied, Text: "resumed session: a full handshake is expected"}
		}
		identity, err := Verify(src, state.PeerCertificates, usage, time.Now())
		if err != nil {
			return err
		}
		if authorize == nil {
			err = errNobody
		} else {
			err = authorize(identity.ID)
		}
		if err != nil {
			return &VerifyError{
				Reason: ReasonDenied,
				Claim:  quote(identity.ID.String()),
				Text:   fmt.Sprintf("identity verified but not admitted: %s", err),
				Err:    err,
			}
		}
		return nil
	}
}

var errNobody = errors.New("nobody is authorized here")
