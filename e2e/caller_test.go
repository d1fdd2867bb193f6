//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/fairlead/fairlead/e2e/servers"
)

// A caller is a workload in the cloud that calls a site's http tunnels.
type caller struct {
	*http.Client
	site *site
}

// A version of HTTP, as a caller speaks it.
type version int

const (
	h1 version = iota + 1
	h2
	h3
)

func (v version) String() string { return fmt.Sprintf("h%d", int(v)) }

// caller returns one with the SPIFFE ID (or none) on the host (nil: this one).
func (s *site) caller(t *testing.T, on servers.Host, id string, v version) *caller {
	t.Helper()
	if on == nil {
		on = new(servers.Loopback)
	}
	if v == h3 {
		return &caller{Client: &http.Client{Transport: s.overQUIC(t, on, id)}, site: s}
	}
	transport := &http.Transport{
		// Every tunnel's host is at the relay.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return on.DialContext(ctx, network, s.address.String())
		},
		TLSClientConfig:     s.tlsConfig(t, id),
		TLSHandshakeTimeout: 20 * time.Second,
		Protocols:           new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(v == h1)
	transport.Protocols.SetHTTP2(v == h2)
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{Client: &http.Client{Transport: transport}, site: s}
}

// overQUIC returns what speaks HTTP/3 from the host to the relay.
func (s *site) overQUIC(t *testing.T, on servers.Host, id string) http.RoundTripper {
	t.Helper()
	socket, err := on.ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(on.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	quicTransport := &quic.Transport{Conn: socket}
	transport := &http3.Transport{
		TLSClientConfig: s.tlsConfig(t, id),
		Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quicTransport.DialEarly(ctx, net.UDPAddrFromAddrPort(s.address), c, q)
		},
	}
	t.Cleanup(func() {
		if err := errors.Join(transport.Close(), quicTransport.Close(), socket.Close()); err != nil {
			t.Error(err)
		}
	})
	return transport
}

// A call is a request to a tunnel; what is left out is a GET with a good token for the tunnel.
type call struct {
	method  string
	tunnel  string
	path    string
	body    io.Reader
	length  int64 // of the body; 0: not said
	token   string
	noToken bool
	header  http.Header
}

// request makes the call's request.
func (c *caller) request(ctx context.Context, t *testing.T, k call) *http.Request {
	t.Helper()
	u := tunnel{name: k.tunnel}
	request, err := http.NewRequestWithContext(ctx, or(k.method, http.MethodGet), "https://"+u.host()+k.path, k.body)
	if err != nil {
		t.Fatal(err)
	}
	if k.length > 0 {
		request.ContentLength = k.length
	}
	maps.Copy(request.Header, k.header)
	if !k.noToken {
		request.Header.Set("Authorization", "Bearer "+or(k.token, c.site.token(t, u.scope())))
	}
	return request
}

// An answer is a response whose body has been read.
type answer struct {
	*http.Response
	body string
}

// code returns the code of the problem document, or nothing where the body is none.
func (a answer) code() string {
	var problem struct {
		Code string `json:"code"`
	}
	if a.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal([]byte(a.body), &problem) != nil {
		return ""
	}
	return problem.Code
}

// do makes the call, for which it waits at most a minute.
func (c *caller) do(t *testing.T, k call) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	response, err := c.Do(c.request(ctx, t, k))
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	return answer{response, string(body)}, errors.Join(err, response.Body.Close())
}

// must is do for a call that must be answered with the status.
func (c *caller) must(t *testing.T, status int, k call) answer {
	t.Helper()
	a, err := c.do(t, k)
	if err != nil {
		t.Fatalf("%s %s%s: %v", or(k.method, "GET"), k.tunnel, k.path, err)
	}
	if a.StatusCode != status {
		t.Fatalf("%s %s%s: got %d %s, want %d", or(k.method, "GET"), k.tunnel, k.path, a.StatusCode, a.body, status)
	}
	return a
}
