package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// parsed sets dst to what parse makes of a text; parse's error says what was expected.
func parsed[T any](dst *T, what string, parse func(string) (T, error)) func(node) {
	return func(n node) {
		s, ok := n.text(what)
		if !ok {
			return
		}
		v, err := parse(s)
		if err != nil {
			n.fault("%v", err)
			return
		}
		*dst = v
	}
}

// entries sets dst to a list of at least one text, each made by parse, none twice.
func entries[L ~[]T, T any](dst *L, what string, parse func(string) (T, error)) func(node) {
	return func(n node) {
		seen := map[string]bool{}
		n.list(func(_ int, entry node) {
			var v T
			before := len(n.r.faults)
			parsed(&v, what, parse)(entry)
			switch {
			case len(n.r.faults) > before:
			case seen[entry.Value]:
				entry.fault("expected each entry once")
			default:
				seen[entry.Value] = true
				*dst = append(*dst, v)
			}
		})
	}
}

func plain(s string) (string, error) { return s, nil }

func patterns(dst *certs.Patterns) func(node) {
	return entries(dst, "a SPIFFE ID pattern such as spiffe://dc1.example/agent/*", certs.ParsePattern)
}

func flag(dst *bool) func(node) {
	return parsed(dst, "true or false", func(s string) (bool, error) {
		if s != "true" && s != "false" {
			return false, fmt.Errorf("expected true or false, got %q", clip(s))
		}
		return s == "true", nil
	})
}

// path sets dst to a path of the local system, made absolute from the file's folder.
func (r *reader) path(dst *string) func(node) {
	return parsed(dst, "a path", func(s string) (string, error) {
		if !filepath.IsAbs(s) {
			s = filepath.Join(r.dir, s)
		}
		return filepath.Clean(s), nil
	})
}

// address sets dst to an IP address and port to listen on; no address means every one.
func address(dst *netip.AddrPort) func(node) {
	return parsed(dst, "an address and port such as 0.0.0.0:8443", func(s string) (netip.AddrPort, error) {
		host, port, ok := strings.Cut(s, ":")
		if ok && (host == "" || host == "localhost") {
			s = map[string]string{"": "[::]:", "localhost": "127.0.0.1:"}[host] + port
		}
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			return a, fmt.Errorf("expected an address and port such as 0.0.0.0:8443, got %q", clip(s))
		}
		return a, nil
	})
}

// loopback sets dst to an address and port that only this host reaches.
func loopback(dst *netip.AddrPort) func(node) {
	return parsed(dst, "a loopback address and port such as 127.0.0.1:6000", func(s string) (netip.AddrPort, error) {
		a, err := netip.ParseAddrPort(s)
		if err != nil || !a.Addr().Unmap().IsLoopback() || a.Addr().Zone() != "" || a.Port() == 0 {
			return a, fmt.Errorf("expected a loopback address and port such as 127.0.0.1:6000 (it is plaintext, and lets in whoever reaches it), got %q", clip(s))
		}
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
	})
}

// duration sets dst to a time within [lowest, highest].
func duration(dst *time.Duration, lowest, highest time.Duration) func(node) {
	return parsed(dst, "a time such as 10s", func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || d < lowest || d > highest {
			return 0, fmt.Errorf("expected a time such as 10s, from %v to %v, got %q", lowest, highest, clip(s))
		}
		return d, nil
	})
}

// count sets dst to a whole number within [lowest, highest].
func count(dst *int, lowest, highest int) func(node) {
	return parsed(dst, "a whole number", func(s string) (int, error) {
		v, err := strconv.Atoi(s)
		if err != nil || v < lowest || v > highest {
			return 0, fmt.Errorf("expected a whole number from %d to %d, got %q", lowest, highest, clip(s))
		}
		return v, nil
	})
}

// size sets dst to a number of bytes within [lowest, highest].
func size[T int | int64](dst *T, lowest, highest T) func(node) {
	return parsed(dst, "a size such as 10MiB", func(s string) (T, error) {
		v, err := parseSize(s)
		if err != nil || v < int64(lowest) || v > int64(highest) {
			return 0, fmt.Errorf("expected a size such as 512, 32KiB or 10MiB, from %d to %d bytes, got %q", lowest, highest, clip(s))
		}
		return T(v), nil
	})
}

var (
	sizePattern = regexp.MustCompile(`^([0-9]{1,18})(B|KiB|MiB|GiB|TiB)?$`)
	errNoSize   = errors.New("expected a size")
)

func parseSize(s string) (int64, error) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, errNoSize
	}
	v, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[m[2]]
	if err != nil || v > math.MaxInt64>>shift {
		return 0, errNoSize
	}
	return v << shift, nil
}
