package backend

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/protocol"
)

// maxUnixPath is what fits sockaddr_un on Linux, without its closing NUL.
const maxUnixPath = 107

// Address says where a backend is and how it is spoken to. The zero value is no address; only ParseAddress makes
// others.
type Address struct {
	scheme string
	host   string // name or canonical IP literal, without brackets
	port   uint16
	path   string // of a unix socket
}

// ParseAddress reads one of
//
//	http://host[:port]  https://host[:port]  h2c://host[:port]  tcp://host:port  tls://host:port  udp://host:port  unix:///path
//
// with nothing behind it: a path, a query or credentials would be silently ignored, and are refused. So is whatever
// is not one destination (wildcards, networks, port 0, a socket path with dots), and the addresses that no backend
// may have (see RefusedAddr), in every spelling.
func ParseAddress(s string) (Address, error) {
	u, err := url.Parse(s)
	if err != nil {
		// The error of net/url quotes the whole URL, credentials included.
		return Address{}, errors.New("expected a URL such as http://10.0.0.5:8080")
	}
	a := Address{scheme: u.Scheme}
	switch {
	case u.User != nil:
		return Address{}, errors.New("expected no credentials in the URL")
	case u.Scheme == "unix":
		return parseUnix(s)
	case !hasPort(u.Scheme):
		return Address{}, fmt.Errorf("expected http, https, h2c, tcp, tls, udp or unix, got %q", u.Scheme)
	case u.Opaque != "" || u.Host == "":
		return Address{}, fmt.Errorf("expected %s:// and a host", u.Scheme)
	case u.Path != "" && (u.Path != "/" || !a.HTTP()):
		return Address{}, fmt.Errorf("expected no path after the host, got %q", u.Path)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#"):
		return Address{}, errors.New("expected no query and no fragment")
	}
	if a.host, err = parseHost(u.Hostname()); err != nil {
		return Address{}, err
	}
	if a.port, err = parsePort(u); err != nil {
		return Address{}, err
	}
	return a, nil
}

func hasPort(scheme string) bool {
	switch scheme {
	case "http", "https", "h2c", "tcp", "tls", "udp":
		return true
	}
	return false
}

func parsePort(u *url.URL) (uint16, error) {
	p := u.Port()
	if p == "" {
		switch {
		case strings.HasSuffix(u.Host, ":"):
		case u.Scheme == "https":
			return 443, nil
		case u.Scheme == "http" || u.Scheme == "h2c":
			return 80, nil
		}
		return 0, fmt.Errorf("expected a port, as in %s://host:5432", u.Scheme)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("expected a port of 1 to 65535, got %q", p)
	}
	return uint16(n), nil
}

func parseUnix(s string) (Address, error) {
	path, ok := strings.CutPrefix(s, "unix://")
	switch {
	case !ok || !filepath.IsAbs(path) && !strings.HasPrefix(path, "/"):
		return Address{}, errors.New("expected unix:// and an absolute path, as in unix:///run/orders.sock")
	case strings.ContainsAny(path, "%?#\x00"):
		return Address{}, errors.New("expected a socket path without %, ?, # and NUL")
	case filepath.Clean(path) != filepath.FromSlash(path) || path == "/":
		return Address{}, errors.New("expected a socket path without empty, . and .. segments")
	case len(path) > maxUnixPath:
		return Address{}, fmt.Errorf("expected a socket path of at most %d bytes, got %d", maxUnixPath, len(path))
	}
	return Address{scheme: "unix", path: path}, nil
}

// HTTP reports whether HTTP exchanges can be carried to the backend.
func (a Address) HTTP() bool {
	switch a.scheme {
	case "http", "https", "h2c", "unix":
		return true
	}
	return false
}

// TLS reports whether the backend is reached over TLS.
func (a Address) TLS() bool { return a.scheme == "https" || a.scheme == "tls" }

// Networks are what the backend can carry: HTTP for an http address, TCP for a tcp one, UDP for a udp one, HTTP and TCP for a unix socket. Raw
// bytes to an http backend are not among them, since they would pass by the rules for methods and paths.
func (a Address) Networks() []protocol.Network {
	switch {
	case a.scheme == "unix":
		return []protocol.Network{protocol.HTTP, protocol.TCP}
	case a.HTTP():
		return []protocol.Network{protocol.HTTP}
	case a.scheme == "udp":
		return []protocol.Network{protocol.UDP}
	case a.scheme != "":
		return []protocol.Network{protocol.TCP}
	}
	return nil
}

func (a Address) String() string {
	if a.scheme == "unix" {
		return "unix://" + a.path
	}
	return a.scheme + "://" + a.hostport()
}

func (a Address) hostport() string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }

// dial returns what net.Dialer wants.
func (a Address) dial() (network, address string) {
	if a.scheme == "unix" {
		return "unix", filepath.FromSlash(a.path)
	}
	return "tcp", a.hostport()
}

// parseHost checks a host name or an IP literal and returns it in one spelling.
func parseHost(host string) (string, error) {
	if strings.Contains(host, "%") {
		return "", errors.New("expected an address without a zone")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if why := RefusedAddr(ip); why != "" {
			return "", fmt.Errorf("expected an address that a backend may have, got %s", why)
		}
		return ip.String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case name == "" || len(name) > 253:
		return "", fmt.Errorf("expected a host name of 1 to 253 characters, got %d", len(name))
	case metadataName(name):
		return "", errors.New("expected an address that a backend may have, got a name of cloud metadata")
	case looksNumeric(name):
		return "", fmt.Errorf("expected an IP address in its usual spelling, got %q", host)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("expected labels of 1 to 63 characters in host name %q", host)
		}
		for i := range len(label) {
			if c := label[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return "", fmt.Errorf("expected one host name of letters, digits, '-' and '_', got %q", host)
			}
		}
	}
	return name, nil
}

// looksNumeric reports whether a resolver may take the name for an IPv4 address in one of inet_aton's spellings
// (0xA9FEA9FE, 2852039166, 0251.0376.0251.0376), or was meant as a range of them: its last label is a number or, behind
// others, begins with a digit, which no top-level domain does.
func looksNumeric(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	last := name[dot+1:]
	if dot > 0 && last != "" && '0' <= last[0] && last[0] <= '9' {
		return true
	}
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// Upgrades reports whether a request to the backend can be upgraded to WebSocket: not over HTTP/2 alone.
func (a Address) Upgrades() bool { return a.HTTP() && a.scheme != "h2c" }
