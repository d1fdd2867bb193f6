package front

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// proxyHeader builds a PROXY v2 header with command and family as given.
func proxyHeader(command, family byte, body []byte) []byte {
	h := append([]byte(proxySignature), 0x20|command, family, 0, 0)
	binary.BigEndian.PutUint16(h[14:], uint16(len(body)))
	return append(h, body...)
}

func proxyFor(src string) []byte {
	a := netip.MustParseAddrPort(src)
	family, ip := byte(0x11), a.Addr().AsSlice()
	if a.Addr().Is6() {
		family = 0x21
	}
	body := append(append([]byte{}, ip...), ip...)
	body = binary.BigEndian.AppendUint16(body, a.Port())
	return proxyHeader(1, family, append(body, 0, 80))
}

func TestProxyHeaderGivesTheSourceAndLeavesTheRest(t *testing.T) {
	for _, src := range []string{"198.51.100.7:4711", "[2001:db8::7]:4711"} {
		withTLV := proxyFor(src)
		withTLV = append(withTLV, 0x04, 0, 1, 0) // a no-op TLV
		binary.BigEndian.PutUint16(withTLV[14:], binary.BigEndian.Uint16(withTLV[14:])+4)
		r := bytes.NewReader(append(withTLV, "next"...))
		got, err := readProxyHeader(r)
		if err != nil || got.String() != src {
			t.Fatalf("readProxyHeader = %v, %v, expected %s", got, err, src)
		}
		if r.Len() != len("next") {
			t.Fatalf("%d bytes are left, expected the 4 behind the header", r.Len())
		}
	}
}

func TestProxyHeaderMayLeaveTheAddressOut(t *testing.T) {
	for _, h := range [][]byte{proxyHeader(0, 0, nil), proxyHeader(0, 0x11, make([]byte, 12)), proxyHeader(1, 0, nil), proxyHeader(1, 0x31, make([]byte, 216))} {
		got, err := readProxyHeader(bytes.NewReader(h))
		if err != nil || got.IsValid() {
			t.Errorf("readProxyHeader(%x) = %v, %v, expected no address and no error", h, got, err)
		}
	}
}

func TestWhatIsNoProxyHeaderIsRefused(t *testing.T) {
	good := proxyFor("198.51.100.7:4711")
	version1 := bytes.Clone(good)
	version1[12] = 0x11
	for name, h := range map[string][]byte{
		"nothing": nil, "version 1 text": []byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), "a TLS hello": {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5, 6},
		"version": version1, "command": proxyHeader(2, 0x11, make([]byte, 12)), "udp": proxyHeader(1, 0x12, make([]byte, 12)),
		"short addresses": proxyHeader(1, 0x11, make([]byte, 11)), "cut": good[:20], "too long": proxyHeader(1, 0x11, make([]byte, maxProxyHeader+1)),
	} {
		if got, err := readProxyHeader(bytes.NewReader(h)); err == nil {
			t.Errorf("%s: readProxyHeader = %v, expected an error", name, got)
		} else if strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%s: the error %q carries the peer's bytes", name, err)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add(proxyFor("198.51.100.7:4711"))
	f.Add(proxyFor("[2001:db8::7]:4711"))
	f.Add(proxyHeader(0, 0, nil))
	f.Add([]byte(proxySignature))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		got, err := readProxyHeader(r)
		if err != nil {
			if got.IsValid() {
				t.Fatalf("an address %v beside the error %v", got, err)
			}
			return
		}
		if want := proxyFixed + int(binary.BigEndian.Uint16(b[14:])); len(b)-r.Len() != want {
			t.Fatalf("%d bytes were read, the header has %d", len(b)-r.Len(), want)
		}
	})
}
