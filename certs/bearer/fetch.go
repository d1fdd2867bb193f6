package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	fetchTimeout = 5 * time.Second // of one load, discovery included
	maxKeySet    = 1 << 20         // bytes of a document
)

var errRedirect = errors.New("redirects are refused")

// newClient returns a client of ours over base's transport.
func newClient(base *http.Client) *http.Client {
	client := &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
	if base != nil && base.Transport != nil {
		client.Transport = base.Transport
		return client
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	client.Transport = transport
	return client
}

// checkURL admits https, and http to this very host.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("its URL does not parse") // the cause quotes it, and it might hold a password
	}
	switch {
	case u.User != nil:
		return errors.New("a URL without user and password is expected")
	case u.Host == "" || u.Fragment != "":
		return fmt.Errorf("URL %s: a host and no fragment are expected", quote(raw))
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("URL %s: https is expected, or http to a loopback address", quote(raw))
}

func hasTLS(url string) bool { return len(url) > 6 && strings.EqualFold(url[:6], "https:") }

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// discover finds the key set by OpenID Connect Discovery 1.0 §4.
func discover(ctx context.Context, client *http.Client, issuer string) (document, error) {
	doc, err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return document{}, err
	}
	var meta struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(doc.body, &meta); err != nil {
		return document{}, errors.New("not an OpenID configuration")
	}
	if meta.Issuer != issuer {
		return document{}, fmt.Errorf("OpenID configuration is of issuer %s, expected %q", quote(meta.Issuer), issuer)
	}
	if err := checkURL(meta.JWKS); err != nil {
		return document{}, fmt.Errorf("jwks_uri: %w", err)
	}
	if hasTLS(issuer) && !hasTLS(meta.JWKS) {
		return document{}, fmt.Errorf("jwks_uri %s: https is expected, as the issuer has", quote(meta.JWKS))
	}
	return get(ctx, client, meta.JWKS)
}

// get fetches at most 1 MiB.
func get(ctx context.Context, client *http.Client, url string) (document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return document{}, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := client.Do(req)
	if err != nil {
		return document{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return document{}, fmt.Errorf("GET %s: status %d, expected 200", url, resp.StatusCode)
	}
	body, err := readBounded(resp.Body)
	if err != nil {
		return document{}, fmt.Errorf("GET %s: %w", url, err)
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		date = time.Time{} // a server need not say
	}
	return document{body: body, date: date}, nil
}

// readFile reads at most 1 MiB.
func readFile(path string) (document, error) {
	f, err := os.Open(path)
	if err != nil {
		return document{}, err
	}
	defer f.Close()
	body, err := readBounded(f)
	if err != nil {
		return document{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return document{body: body}, nil
}

func readBounded(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxKeySet {
		return nil, errors.New("more than 1 MiB")
	}
	return body, nil
}
