package backend

import (
	"net/netip"
	"strings"
	"testing"
)

func TestOneDestinationIsReadFromAURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://10.0.0.5:8080":     "http://10.0.0.5:8080",
		"http://orders":            "http://orders:80",
		"https://Orders.DC1.":      "https://orders.dc1:443",
		"h2c://orders:50051/":      "h2c://orders:50051",
		"tcp://[2001:db8::5]:5432": "tcp://[2001:db8::5]:5432",
		"udp://10.0.0.9:1812":      "udp://10.0.0.9:1812",
		"tls://ldap_1:636":         "tls://ldap_1:636",
		"http://127.0.0.1:1":       "http://127.0.0.1:1",
		"http://[::1]:1":           "http://[::1]:1",
		"unix:///run/orders.sock":  "unix:///run/orders.sock",
	} {
		if a, err := ParseAddress(in); err != nil || a.String() != want {
			t.Errorf("%s: got %v, %v, want %s", in, a, err, want)
		}
	}
}

func TestWhatIsNotOneDestinationIsRefused(t *testing.T) { // S07
	for _, in := range []string{
		"", "10.0.0.5:8080", "ftp://a:1", "udp://a", "udp://a:1/x", "http://", "http:///x", "http:a", "://", "http://a b", "tcp://a", "tls://a",
		"tcp://a:", "tcp://a:0", "tcp://a:65536", "tcp://a:-1", "tcp://a:http", "http://a:0",
		"tcp://a:1/x", "tcp://a:1/", "http://a/x", "tcp://a:1?x", "http://a?", "http://a#x", "http://a#", "tcp://u:p@a:1", "http://u@a",
		"http://*", "http://*.dc1", "http://10.0.0.0/24", "http://10.0.0.*", "tcp://10.0.0.0-9:1", "http://a,b", "http://a..b", "http://.a",
		"http://[fe80::1%25eth0]", "http://１０.0.0.5", "http://" + strings.Repeat("a", 64), "http://" + strings.Repeat("a.", 130) + "a",
		"unix://run/x", "unix:run/x", "unix:///", "unix:///run/../etc/x", "unix:///run/./x", "unix:///run//x", "unix:///run/x/",
		"unix:///run/%2e%2e/x", "unix:///run/x?y", "unix:///run/x#y", "unix:///" + strings.Repeat("x", 200), "unix://host/run/x",
	} {
		if a, err := ParseAddress(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, a)
		}
	}
}

func TestAddressesThatNoBackendMayHaveAreRefusedInEverySpelling(t *testing.T) { // S03
	for _, host := range []string{
		"169.254.169.254", "169.254.169.254.", "[fd00:ec2::254]", "[fd00:0ec2:0:0::254]", "100.100.100.200", "168.63.129.16",
		"metadata.google.internal", "METADATA.google.internal.", "metadata", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
		"[::169.254.169.254]", "[64:ff9b::169.254.169.254]", "[2002:a9fe:a9fe::1]", "[::ffff:0:169.254.169.254]",
		"0xA9FEA9FE", "0xa9.0xfe.0xa9.0xfe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "169.16689662", "0251.254.169.0xfe",
		"0.0.0.0", "0", "0.1.2.3", "[::]", "[::ffff:0.0.0.0]", "169.254.0.1", "[fe80::1]", "224.0.0.1", "239.255.255.250", "[ff02::1]",
		"255.255.255.255", "0x7f.1", "127.1", "010.0.0.5",
	} {
		for _, scheme := range []string{"http", "tcp"} {
			if a, err := ParseAddress(scheme + "://" + host + ":80"); err == nil {
				t.Errorf("%s: got %v, want an error", host, a)
			}
		}
	}
}

func TestOrdinaryAddressesAreAllowed(t *testing.T) {
	for _, ip := range []string{"10.0.0.5", "127.0.0.1", "::1", "2001:db8::1", "fd00::1", "192.168.1.1", "::ffff:10.0.0.5", "100.64.0.1"} {
		if why := RefusedAddr(netip.MustParseAddr(ip)); why != "" {
			t.Errorf("%s: got %s", ip, why)
		}
	}
	if RefusedAddr(netip.Addr{}) == "" {
		t.Error("no address is allowed")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"http://a:1", "unix:///x", "tcp://[::1]:1", "https://u@h/p?q#f", "http://0xa9fea9fe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Errorf("%q reads as %v, and that as %v, %v", s, a, again, err)
		}
		if ip, err := netip.ParseAddr(a.host); err == nil && RefusedAddr(ip) != "" {
			t.Errorf("%q reads as the refused address %v", s, ip)
		}
	})
}
