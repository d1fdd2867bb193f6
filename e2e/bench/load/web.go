//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// web GETs from a URL on s.Streams connections that are kept, or on one where that is HTTP/2.
func web(ctx context.Context, s Spec, report func(Result)) error {
	transport := &http.Transport{MaxIdleConnsPerHost: s.Streams, MaxConnsPerHost: s.Streams, DisableCompression: true, DisableKeepAlives: s.Once}
	url := "http://" + s.address(0) + "/1k"
	if s.TLS != nil {
		if err := s.TLS.prepare(transport, s.address(0)); err != nil {
			return err
		}
		url = "https://" + s.TLS.Name + "/1k"
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	calls := make([]func() error, s.Streams)
	for i := range calls {
		calls[i] = func() error { return get(ctx, client, url, s.Header) }
	}
	return repeat(ctx, s, calls, report)
}

// prepare makes the transport speak TLS to an address.
func (t *TLS) prepare(transport *http.Transport, address string) error {
	own, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(t.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: expected a certificate", t.CA)
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, RootCAs: roots}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(!t.H2)
	transport.Protocols.SetHTTP2(t.H2)
	if t.H2 {
		transport.MaxConnsPerHost = 1
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url, header string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if header != "" {
		request.Header.Set("Authorization", header)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}
