package uplink

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"
)

// DialTCP opens a TCP connection to host:port.
type DialTCP func(ctx context.Context, address string) (net.Conn, error)

// Proxy is the way out where there is no direct one. URL is http://host:port or socks5://host:port.
type Proxy struct {
	URL      *url.URL
	User     string
	Password func() (string, error) // asked anew for each dial, so that a changed file counts; nil: none
}

// direct keeps MPTCP off: the user time-out and the congestion control of a socket do not work on it.
func direct() *net.Dialer {
	d := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	d.SetMultipathTCP(false)
	return d
}

// Direct dials without a proxy.
func Direct(ctx context.Context, address string) (net.Conn, error) {
	return direct().DialContext(ctx, "tcp", address)
}

// FromEnvironment returns the proxy that HTTPS_PROXY and NO_PROXY name for the relays (host:port each), or nil for a
// direct way. All relays must have the same way out.
func FromEnvironment(relays []string) (*Proxy, error) {
	ask := httpproxy.FromEnvironment().ProxyFunc()
	var u *url.URL
	for i, relay := range relays {
		this, err := ask(&url.URL{Scheme: "https", Host: relay})
		if err != nil {
			// Not err itself: the value may hold a password.
			return nil, errors.New("HTTPS_PROXY: expected http://host:port or socks5://host:port")
		}
		if i > 0 && (this == nil) != (u == nil) {
			return nil, errors.New("NO_PROXY: expected all relays or none; set proxy in the file")
		}
		u = this
	}
	if u == nil {
		return nil, nil
	}
	p := &Proxy{URL: &url.URL{Scheme: u.Scheme, Host: u.Host}}
	if u.User != nil {
		p.User = u.User.Username()
		if password, ok := u.User.Password(); ok {
			p.Password = func() (string, error) { return password, nil }
		}
	}
	if p.URL.Scheme != "http" && p.URL.Scheme != "socks5" {
		return nil, fmt.Errorf("HTTPS_PROXY: expected http:// or socks5://, got %s://", p.URL.Scheme)
	}
	return p, nil
}

// Dial goes through the proxy.
func (p *Proxy) Dial(ctx context.Context, address string) (net.Conn, error) {
	password := ""
	if p.Password != nil {
		var err error
		if password, err = p.Password(); err != nil {
			return nil, fmt.Errorf("proxy password: %w", err)
		}
	}
	if p.URL.Scheme == "socks5" {
		var auth *proxy.Auth
		if p.User != "" {
			auth = &proxy.Auth{User: p.User, Password: password}
		}
		d, err := proxy.SOCKS5("tcp", p.URL.Host, auth, direct())
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", p.URL.Host, err)
		}
		conn, err := d.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", p.URL.Host, err)
		}
		return conn, nil
	}
	return p.connect(ctx, address, password)
}

// connect asks an HTTP proxy for a tunnel (RFC 9110 §9.3.6), with Basic credentials (RFC 7617) where there are any.
func (p *Proxy) connect(ctx context.Context, address, password string) (net.Conn, error) {
	conn, err := Direct(ctx, p.URL.Host)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", p.URL.Host, err)
	}
	fail := func(err error) (net.Conn, error) {
		return nil, errors.Join(fmt.Errorf("proxy %s: %w", p.URL.Host, err), conn.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if p.User != "" {
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(p.User+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return fail(err)
	}
	// The relay says nothing before our ClientHello, so a proxy that is done leaves nothing in this reader.
	r := bufio.NewReaderSize(conn, 4096)
	resp, err := http.ReadResponse(r, req) //nolint:bodyclose // what follows a CONNECT is the connection, closed as such
	if err != nil {
		return fail(fmt.Errorf("answer to CONNECT: %w", err))
	}
	if resp.StatusCode != http.StatusOK {
		hint := ""
		if resp.StatusCode == http.StatusProxyAuthRequired {
			hint = fmt.Sprintf(" (it wants %q; only Basic is spoken)", resp.Header.Get("Proxy-Authenticate"))
		}
		return fail(fmt.Errorf("answers %s to CONNECT %s%s", resp.Status, address, hint))
	}
	if r.Buffered() > 0 {
		return fail(errors.New("sent bytes behind its answer to CONNECT"))
	}
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return conn, nil
}
