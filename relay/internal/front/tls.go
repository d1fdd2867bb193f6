package front

import (
	"crypto/tls"
	"errors"
	"slices"

	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
)

func (f *Front) configureTLS() {
	f.agent = certs.ServerConfig(f.cfg.Source, []string{protocol.ALPN}, f.cfg.AuthorizeLink)
	f.web = certs.CallerConfig(f.cfg.Source, f.cfg.ServerCert, []string{"h2", "http/1.1"})
	f.web3 = certs.CallerConfig(f.cfg.Source, f.cfg.ServerCert, []string{http3.NextProtoH3})
}

var errEnroll = errors.New("enrolment is not served by this version")

// dispatch is the config of a port: what a hello offers decides which one of the two it meets. Tickets cross between
// inner configs, so they are off in all of them, the outer one too.
func (f *Front) dispatch(web *tls.Config) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             append([]string{protocol.ALPN}, web.NextProtos...),
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			switch {
			case slices.Contains(hello.SupportedProtos, protocol.ALPN):
				if c, ok := hello.Conn.(*conn); ok {
					c.agent.Store(true)
				}
				return f.agent, nil
			case slices.Contains(hello.SupportedProtos, protocol.ALPNEnroll):
				return nil, errEnroll
			}
			return web, nil
		},
	}
}
