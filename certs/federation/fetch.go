package federation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/fairlead/fairlead/certs"
)

const (
	fetchTimeout = 10 * time.Second
	maxBundle    = 1 << 20 // bytes
)

var errRedirect = errors.New("redirects are refused")

// newClient makes what fetches from an endpoint, and verifies it as its profile says.
func newClient(f *follower, e Endpoint) (*http.Client, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, err // Check was before
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.ForceAttemptHTTP2 = false
	transport.DisableKeepAlives = true // so that each fetch verifies the endpoint by the bundle of then
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case e.Profile == SPIFFE:
		transport.TLSClientConfig = certs.ClientConfig(f, u.Hostname(), []string{"http/1.1"}, func(id certs.ID) error {
			if id != e.ID {
				return fmt.Errorf("endpoint %s is expected, not %s", e.ID, id)
			}
			return nil
		})
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return new(tls.Certificate), nil // none, also for an endpoint that asks for one
		}
	case e.CA != "":
		pem, err := os.ReadFile(e.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: CA certificates in PEM are expected", e.CA)
		}
	}
	return &http.Client{Transport: transport, Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}, nil
}

// fetch asks the endpoint.
func (f *follower) fetch(ctx context.Context) (*spiffebundle.Bundle, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	res, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d, expected 200", f.url, res.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBundle+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxBundle {
		return nil, fmt.Errorf("GET %s: more than %d bytes", f.url, maxBundle)
	}
	b, err := ParseBundle(f.td, text)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", f.url, err)
	}
	return b, nil
}
