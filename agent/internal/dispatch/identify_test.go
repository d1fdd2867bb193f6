package dispatch

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/fairlead/fairlead/agent/internal/config"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

const shop = "spiffe://cloud.example/api/shop"

func ada() grant.Grant {
	return grant.Grant{Caller: spiffeid.RequireFromString(shop), App: "shop", User: "ada", Issuer: "https://idp.example",
		Scopes: []string{"orders.read", "orders.write"}, Groups: []string{"clerks, senior", "tüll"}, ACR: "gold", AMR: []string{"pwd", "otp"}}
}

// keeper keeps what it is asked to sign.
type keeper struct {
	said *bearer.TxnToken
	err  error
}

func (k *keeper) Sign(t *bearer.TxnToken, _ time.Time) (string, error) {
	k.said = t
	return "signed", k.err
}

// calledBy has the backend called, and returns what it was sent.
func calledBy(t *testing.T, g grant.Grant, how config.Identify, signer Signer) (http.Header, *protocol.Opened) {
	t.Helper()
	var got http.Header
	tunnel := serveHTTP(t, func(_ http.ResponseWriter, q *http.Request) { got = q.Header.Clone() })
	tunnel.Identify = how
	r := newRelayWith(t, Config{Tunnels: []config.Tunnel{tunnel}, Signer: signer})
	s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.HTTP, CallID: "c1", Method: "GET", Path: "/a", Source: "192.0.2.1:4711", Grant: full(g)},
		"GET /a?b HTTP/1.1\r\nHost: x\r\nFairlead-User: evil\r\nfairlead_groups: evil\r\nTXN-TOKEN: evil\r\nConnection: Txn-Token, Fairlead-User\r\n\r\n")
	opened, err := protocol.ReadOpened(s)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, s)
	_ = s.CloseWrite()
	r.report()
	return got, opened
}

func TestABackendIsToldInHeadersWhoCallsWhereItAsks(t *testing.T) {
	for name, how := range map[string]config.Identify{"by default": {}, "in full": {Headers: true}} {
		want := map[string]string{"Fairlead-Call-Id": "c1", "Fairlead-Tunnel": "orders", "Fairlead-Caller": shop}
		if how.Headers {
			want["Fairlead-App"], want["Fairlead-User"], want["Fairlead-User-Issuer"] = "shop", "ada", "https://idp.example"
			want["Fairlead-Scopes"], want["Fairlead-Groups"] = "orders.read orders.write", "clerks%2C senior,t%C3%BCll"
		}
		h, _ := calledBy(t, ada(), how, nil)
		got := map[string]string{}
		for name, vv := range h {
			if strings.HasPrefix(name, "Fairlead") || strings.HasPrefix(name, "Txn") {
				got[name] = strings.Join(vv, "|")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := visible("a\r\nb%"); got != "a%0D%0Ab%25" {
		t.Errorf("got %s", got)
	}
}

func TestATransactionTokenSaysWhoCallsForWhat(t *testing.T) {
	k := new(keeper)
	h, _ := calledBy(t, ada(), config.Identify{TxnToken: "dc1.example"}, k)
	if got := h["Txn-Token"]; len(got) != 1 || got[0] != "signed" {
		t.Errorf("got %q", got)
	}
	want := &bearer.TxnToken{Audience: "dc1.example", Transaction: "c1", Subject: "ada", Scope: "orders.read orders.write", Workload: shop,
		Context: map[string]any{"tunnel": "orders", "method": "GET", "path": "/a"},
		Requester: map[string]any{"sub_iss": "https://idp.example", "app": "shop", "acr": "gold", "amr": []string{"pwd", "otp"},
			"groups": []string{"clerks, senior", "tüll"}, "source": "192.0.2.1:4711"}}
	if diff := cmp.Diff(want, k.said); diff != "" {
		t.Error(diff)
	}
	for subject, g := range map[string]grant.Grant{shop: {Caller: ada().Caller}, "shop": {App: "shop"}, "anonymous": {}} {
		if calledBy(t, g, config.Identify{TxnToken: "dc1.example"}, k); k.said.Subject != subject {
			t.Errorf("got %s, want %s", k.said.Subject, subject)
		}
	}
	h, opened := calledBy(t, ada(), config.Identify{TxnToken: "dc1.example"}, &keeper{err: errors.New("no SVID")})
	if opened.Code != protocol.IdentityUnavailable || opened.Sent || h != nil {
		t.Errorf("without a signature: %+v, the backend got %v", opened, h)
	}
}

func TestATCPBackendIsToldByThePROXYProtocol(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a21"
	id := "e0001f" + hex.EncodeToString([]byte(shop)) + "e10003" + hex.EncodeToString([]byte("ada"))
	call := "050002" + hex.EncodeToString([]byte("c1"))
	for source, want := range map[string]string{
		"192.0.2.1:4711":          signature + "11" + "0039" + "c0000201" + "00000000" + "1267" + "0000" + call + id,
		"[::ffff:192.0.2.1]:4711": signature + "11" + "0039" + "c0000201" + "00000000" + "1267" + "0000" + call + id,
		"[2001:db8::1]:4711":      signature + "21" + "0051" + "20010db8000000000000000000000001" + strings.Repeat("00", 16) + "1267" + "0000" + call + id,
		"":                        signature + "00" + "002d" + call + id,
	} {
		got := make(chan string, 1)
		tunnel := serveTCP(t, "tcp", func(c net.Conn) {
			b, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			got <- hex.EncodeToString(b)
		})
		tunnel.Identify.ProxyProtocol = true
		r := newRelay(t, tunnel)
		s := r.open(&protocol.Open{Tunnel: "orders", Network: protocol.TCP, CallID: "c1", Source: source, Grant: full(grant.Grant{Caller: ada().Caller, User: "ada"})}, "hello")
		if opened, err := protocol.ReadOpened(s); err != nil || opened.Code != protocol.OK {
			t.Fatalf("got %v, %v", opened, err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b := <-got; b != want+hex.EncodeToString([]byte("hello")) {
			t.Errorf("%s: got\n%s, want\n%s", source, b, want)
		}
		r.report()
	}
}
