package gateway

import (
	"cmp"
	"crypto/sha256"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

func TestAPartyBeyondItsQuotaIsToldWhenToComeAgain(t *testing.T) {
	r := newRig(t, func(name string, t *tunnel.Tunnel) {
		if name == "orders" {
			t.Quota, t.Per = limit.Quota{Rate: 0.01, Burst: 2}, tunnel.PerCaller
		}
	})
	b := new(book)
	r.cfg.Audit = b.write
	r.backend(func(http.ResponseWriter, *http.Request) {})
	for left := range 2 {
		res, _ := r.do(r.request("GET", "orders", "/", nil))
		if got := res.Header.Get("RateLimit"); res.StatusCode != http.StatusOK || !strings.HasPrefix(got, `"default";r=`+string(rune('1'-left))+`;t=`) || res.Header.Get("RateLimit-Policy") != `"default";q=2;w=200` {
			t.Errorf("call %d: %d, %q, %q", left, res.StatusCode, got, res.Header.Get("RateLimit-Policy"))
		}
	}
	res, body := r.do(r.request("GET", "orders", "/", nil))
	r.wantProblem(res, body, http.StatusTooManyRequests, protocol.RateLimited)
	if after := res.Header.Get("Retry-After"); len(after) < 2 || len(after) > 3 {
		t.Errorf("Retry-After %q", after)
	}
	if d := b.of(t, res.Header.Get("Fairlead-Call-Id"), 1)[0]; d.Decision != "deny" || d.Rule != policy.RuleLimits {
		t.Errorf("%+v", d)
	}
	if res, _ := do(t, r.client("spiffe://cloud.example/api/other", false), r.request("GET", "orders", "/", nil)); res.StatusCode != http.StatusOK {
		t.Errorf("another caller pays for it: %d", res.StatusCode)
	}
	if res, _ := r.do(r.request("GET", "small", "/", nil)); res.StatusCode != http.StatusOK || res.Header.Get("RateLimit") != "" {
		t.Errorf("another tunnel: %d, %q", res.StatusCode, res.Header.Get("RateLimit"))
	}
}

func TestAnAppHasTheQuotaOfItsTierOverAllItsTunnels(t *testing.T) {
	r := newRig(t, func(name string, t *tunnel.Tunnel) {
		if name == "orders" || name == "small" {
			t.Authenticate = &tunnel.Require{App: new(tunnel.AppRule)}
		}
	})
	r.cfg.Tier = func(name string) (limit.Quota, bool) {
		return limit.Quota{Calls: map[string]int64{"free": 1, "gold": 100}[name], Per: time.Hour}, true
	}
	sum := sha256.Sum256([]byte("s"))
	apps := authn.Apps{}
	for _, id := range []string{"free", "gold"} {
		apps[id] = &authn.App{ID: id, Secrets: [][sha256.Size]byte{sum}, Tunnels: []protocol.TunnelName{"orders", "small"}, Tier: id}
	}
	r.regate(apps, tokens{})
	r.backend(func(http.ResponseWriter, *http.Request) {})
	call := func(app, tunnel string) int {
		req := r.request("GET", tunnel, "/", nil)
		req.SetBasicAuth(app, "s")
		res, _ := r.do(req)
		return res.StatusCode
	}
	if a, b, c, d := call("free", "orders"), call("free", "small"), call("gold", "orders"), call("gold", "small"); a != 200 || b != 429 || c != 200 || d != 200 {
		t.Errorf("got %d, %d, %d, %d", a, b, c, d)
	}
}

func TestSpikesWaitForTheirTurn(t *testing.T) {
	r := newRig(t, func(name string, t *tunnel.Tunnel) {
		if name == "orders" {
			t.Spike = limit.Spike{Rate: 0.05, Queue: 0, Wait: time.Second}
		}
	})
	r.backend(func(http.ResponseWriter, *http.Request) {})
	if res, _ := r.do(r.request("GET", "orders", "/", nil)); res.StatusCode != http.StatusOK {
		t.Errorf("got %d", res.StatusCode)
	}
	res, body := r.do(r.request("GET", "orders", "/", nil))
	r.wantProblem(res, body, http.StatusTooManyRequests, protocol.RateLimited)
	if after := res.Header.Get("Retry-After"); after != "20" && after != "19" {
		t.Errorf("Retry-After %q", after)
	}
}

// W12
func TestABodyBeyondItsFormNeverArrivesWhole(t *testing.T) {
	r := newRig(t, func(name string, t *tunnel.Tunnel) {
		switch name {
		case "orders":
			t.JSON = &limit.JSON{Depth: 3, Keys: 10, String: 20}
		case "small":
			t.Body, t.XML = 0, &limit.XML{Depth: 3}
		}
	})
	var whole atomic.Int64
	r.backend(func(w http.ResponseWriter, q *http.Request) {
		if _, err := io.Copy(io.Discard, q.Body); err == nil {
			whole.Add(1)
		}
	})
	for _, c := range []struct {
		tunnel, kind, encoding, body string
		want                         int
	}{
		{"orders", "application/json", "", `{"a":[1,2]}`, 200},
		{"orders", "application/merge-patch+json; charset=UTF-8", "", `{"a":[1,2]}`, 200},
		{"orders", "", "", ``, 200}, // no body is of any form
		{"orders", "application/json", "", strings.Repeat("[", 10_000), 400},
		{"orders", "application/json", "", `[` + strings.Repeat(`"x",`, 200_000) + strings.Repeat("[", 10), 400},
		{"orders", "application/json", "", `{"a":` + strings.Repeat(" ", 100), 400},
		{"orders", "text/plain", "", `{}`, 400},
		{"orders", "", "", `{}`, 400},
		{"orders", "application/xml", "", `<a/>`, 400},
		{"orders", "application/json; charset=utf-16", "", `{}`, 400},
		{"orders", "application/json", "gzip", `{}`, 400},
		{"small", "application/soap+xml", "", `<a><b/></a>`, 200},
		{"small", "text/xml", "", `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`, 400},
		{"small", "text/xml", "", strings.Repeat("<a>", 100_000), 400},
		{"small", "application/json", "", `{}`, 400},
	} {
		for _, known := range []bool{true, false} {
			before := whole.Load()
			var body io.Reader = strings.NewReader(c.body)
			if !known {
				body = io.MultiReader(body) // whose length is not known
			}
			req := r.request("POST", c.tunnel, "/", body)
			if c.body == "" {
				req.Body, req.ContentLength = nil, 0
			}
			if c.kind != "" {
				req.Header.Set("Content-Type", c.kind)
			}
			if c.encoding != "" {
				req.Header.Set("Content-Encoding", c.encoding)
			}
			res, text := r.do(req)
			if res.StatusCode != c.want {
				t.Errorf("%s %q %.40q: got %d %s", c.tunnel, c.kind, c.body, res.StatusCode, text)
			}
			if c.want == 400 {
				r.wantProblem(res, text, 400, protocol.BadRequest)
				if whole.Load() != before {
					t.Errorf("%s %q %.40q: it arrived whole", c.tunnel, c.kind, c.body)
				}
			}
		}
	}
}

func TestOnlyTheProxiesThatAreBelievedSayWhereACallIsFrom(t *testing.T) {
	peer := netip.MustParseAddrPort("[::ffff:192.0.2.1]:4711")
	for _, c := range []struct {
		forwarded []string
		proxies   int
		want      string
	}{
		{[]string{"203.0.113.9"}, 0, "192.0.2.1"},
		{[]string{"203.0.113.9"}, 1, "203.0.113.9"},
		{[]string{"198.51.100.1, 203.0.113.9"}, 1, "203.0.113.9"}, // what stands further left a caller may have written
		{[]string{"198.51.100.1, 203.0.113.9", "10.0.0.1"}, 2, "203.0.113.9"},
		{[]string{"203.0.113.9"}, 2, "192.0.2.1"},
		{nil, 1, "192.0.2.1"},
		{[]string{"nonsense"}, 1, "192.0.2.1"},
		{[]string{"203.0.113.9, "}, 1, "192.0.2.1"},
		{[]string{"2001:db8::1"}, 1, "2001:db8::1"},
	} {
		if got := sourceOf(peer, c.forwarded, c.proxies); got.String() != c.want {
			t.Errorf("%q behind %d: got %s, want %s", c.forwarded, c.proxies, got, c.want)
		}
	}
	if got := sourceOf(netip.AddrPort{}, []string{"203.0.113.9"}, 1); got.IsValid() {
		t.Errorf("at a local door: %s", got)
	}
}

func TestAQuotaIsOfThePartyThatTheTunnelNames(t *testing.T) {
	var keys []limit.Key
	of := func(per tunnel.Party, p authn.Principal, source string) limit.Key {
		c := &call{source: netip.MustParseAddr(source), decision: &policy.Decision{Tunnel: &tunnel.Tunnel{Name: "orders", Per: per}, Principal: p}}
		key, _ := c.party()
		return key
	}
	one := authn.Principal{Caller: mustID("spiffe://cloud.example/api/one"), App: &authn.App{ID: "shop"},
		Token: &bearer.Token{Issuer: "https://idp.example", Subject: "ada"}}
	two := authn.Principal{Caller: mustID("spiffe://cloud.example/api/two"), App: &authn.App{ID: "mobile"},
		Token: &bearer.Token{Issuer: "https://other.example", Subject: "ada"}}
	for per, together := range map[tunnel.Party]bool{
		tunnel.PerCaller: false, tunnel.PerApp: false, tunnel.PerUser: false, tunnel.PerSource: false, tunnel.PerTunnel: true,
	} {
		a, b := of(per, one, "192.0.2.1"), of(per, two, "192.0.2.2")
		if (a == b) != together {
			t.Errorf("per %s: %+v and %+v", per, a, b)
		}
		if again := of(per, one, "192.0.2.1"); again != a {
			t.Errorf("per %s: %+v, then %+v", per, a, again)
		}
		keys = append(keys, a)
	}
	slices.SortFunc(keys, func(a, b limit.Key) int { return cmp.Compare(a.Kind, b.Kind) })
	if len(slices.Compact(keys)) != 5 {
		t.Errorf("parties of two kinds count together: %+v", keys)
	}
}

func TestAQuotaBySourceCountsAnIPv6Network(t *testing.T) {
	r := newRig(t, func(_ string, t *tunnel.Tunnel) { t.Quota, t.Per = limit.Quota{Rate: 0.01, Burst: 1}, tunnel.PerSource })
	r.backend(func(http.ResponseWriter, *http.Request) {})
	r.cfg.TrustedProxies = func() int { return 1 }
	for _, c := range []struct {
		source string
		status int
	}{
		{"203.0.113.1", 200}, {"203.0.113.1", 429}, {"203.0.113.2", 200},
		{"2001:db8::1", 200}, {"2001:db8::2", 429}, {"2001:db8:0:1::1", 200},
	} {
		req := r.request("GET", "orders", "/", nil)
		req.Header.Set("X-Forwarded-For", c.source)
		if res, _ := r.do(req); res.StatusCode != c.status {
			t.Errorf("from %s: got %d, want %d", c.source, res.StatusCode, c.status)
		}
	}
}

func TestATunnelMayBeCalledFromItsNetworksAlone(t *testing.T) {
	r := newRig(t, func(name string, t *tunnel.Tunnel) {
		switch name {
		case "orders":
			t.Sources = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		case "small":
			t.Sources = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		}
	})
	r.backend(func(http.ResponseWriter, *http.Request) {})
	if res, body := r.do(r.request("GET", "orders", "/", nil)); res.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	req := r.request("GET", "small", "/", nil)
	req.Header.Set("X-Forwarded-For", "203.0.113.1")
	res, body := r.do(req)
	r.wantProblem(res, body, http.StatusForbidden, protocol.SourceDenied)
	r.cfg.TrustedProxies = func() int { return 1 }
	if res, body := r.do(req.Clone(t.Context())); res.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
}

func TestABodyOfKnownLengthIsJudgedWithItsLastByte(t *testing.T) {
	for name, unfinished := range map[string]string{"json": `{"a": [1`, "xml": `<a><b>`} {
		c := &call{decision: &policy.Decision{Tunnel: &tunnel.Tunnel{JSON: &limit.JSON{}, XML: &limit.XML{}}}}
		// net/http says the end of some bodies with another Read, which whoever has the announced bytes does not make.
		req := &http.Request{Header: http.Header{"Content-Type": {"application/" + name}}, ContentLength: int64(len(unfinished)), Body: io.NopCloser(iotest.HalfReader(strings.NewReader(unfinished)))}
		body, err := c.checkForm(req, req.Body)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(body, make([]byte, len(unfinished))); err == nil {
			t.Errorf("%s: %d bytes, and no error", name, n)
		}
		if c.form != nil {
			_ = c.form.Close()
		}
	}
}
