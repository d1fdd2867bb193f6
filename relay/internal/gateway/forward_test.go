package gateway

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// seen sends a request with header and returns what the backend got.
func (r *rig) seen(tunnel string, header http.Header) http.Header {
	r.t.Helper()
	req := r.request("GET", tunnel, "/a?b=c", nil)
	maps.Copy(req.Header, header)
	got := make(chan http.Header, 1)
	r.backend(func(_ http.ResponseWriter, q *http.Request) {
		q.Header["Got-Host"] = []string{q.Host, q.RequestURI}
		got <- q.Header
	})
	if res, body := r.do(req); res.StatusCode != 200 {
		r.t.Fatalf("status %d: %s", res.StatusCode, body)
	}
	return <-got
}

func TestOnlyTheRelaysWordReachesTheBackend(t *testing.T) { // W03
	r := newRig(t, nil)
	evil := []string{"evil", "evil"}
	h := r.seen("orders", http.Header{
		"Fairlead-Caller": evil, "fairlead-caller": evil, "FAIRLEAD_CALLER": evil, "Fairlead_Tunnel": evil, "Fairlead-Anything": evil,
		"Txn-Token": evil, "Txn_Token": evil, "txn-token": evil,
		"Forwarded": evil, "X-Forwarded-For": evil, "x-forwarded-host": evil, "X_Forwarded_Proto": evil, "X-Forwarded-Client-Cert": evil,
		"X-Forwarded-Port": evil, "X-Real-Ip": evil, "X_Real-IP": evil, "X-FORWARDED-FOR": evil,
		"Proxy-Authorization": evil, "Proxy_Authorization": evil, "Authorization": {"Bearer evil"}, "Content_Length": evil, "Transfer_Encoding": evil,
		"Kept_Header": {"fine"}, "Cookie": {"a=b"},
	})
	for name, vv := range h {
		if slices.Contains(vv, "evil") || slices.Contains(vv, "Bearer evil") {
			t.Errorf("the backend got %s: %q", name, vv)
		}
	}
	for name, want := range map[string]string{
		"Fairlead-Caller": caller, "Fairlead-Tunnel": "orders", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "orders.dc1.example",
		"X-Forwarded-Proto": "https", "Forwarded": `for=127.0.0.1;host="orders.dc1.example";proto=https`,
		"Kept_header": "fine", "Cookie": "a=b",
	} {
		if got := h[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, expected %q once", name, got, want)
		}
	}
	if id := h["Fairlead-Call-Id"]; len(id) != 1 || len(id[0]) != 26 {
		t.Errorf("Fairlead-Call-Id is %q", id)
	}
	if got := h["Got-Host"]; got[0] != "orders.dc1.example" || got[1] != "/a?b=c" {
		t.Errorf("host and target are %q", got)
	}
}

func TestConnectionCannotRemoveTheRelaysHeaders(t *testing.T) { // W02
	r := newRig(t, nil)
	h := r.seen("orders", http.Header{"Connection": {"Fairlead-Tunnel, X-Forwarded-For", "Fairlead-Caller, Forwarded"}})
	for _, name := range []string{"Fairlead-Tunnel", "Fairlead-Caller", "Forwarded", "X-Forwarded-For"} {
		if len(h[name]) != 1 {
			t.Errorf("%s is %q, expected one value", name, h[name])
		}
	}
}

func TestTheTokenIsForwardedOnlyWhereTheTunnelSaysSo(t *testing.T) {
	for tunnel, want := range map[string]string{"secured": "", "forward": "Bearer " + goodToken} {
		r := newRig(t, nil)
		h := r.seen(tunnel, http.Header{"Authorization": {"Bearer " + goodToken}, "Proxy-Authorization": {"Bearer other"}})
		if got := h.Get("Authorization"); got != want {
			t.Errorf("%s: Authorization is %q, expected %q", tunnel, got, want)
		}
		if got := h.Get("Proxy-Authorization"); got != "" {
			t.Errorf("%s: Proxy-Authorization is %q", tunnel, got)
		}
	}
}

func TestTrailersPassExceptForWhatTheRelayKeeps(t *testing.T) { // W04
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		got := make(chan http.Header, 1)
		r.backend(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			got <- q.Trailer
			w.Header().Set("Trailer", "Grpc-Status, Fairlead-Evil")
			w.Header().Set("Fairlead-Evil", "header")
			w.Header().Set("Alt-Svc", `h3=":1"`)
			_, _ = io.WriteString(w, "body")
			w.Header().Set("Grpc-Status", "0")
			w.Header().Set("Fairlead-Evil", "trailer")
			w.Header().Set(http.TrailerPrefix+"Late", "yes")
			w.Header().Set(http.TrailerPrefix+"Fairlead-Late", "evil")
		})
		req := r.request("POST", "orders", "/", io.MultiReader(strings.NewReader("body")))
		req.Trailer = http.Header{"Checksum": {"abc"}, "Fairlead-Caller": {"evil"}, "X_forwarded_for": {"evil"}}
		if !h2 { // net/http refuses it there by itself
			req.Trailer.Set("Authorization", "evil")
		}
		res, _ := do(t, r.client(caller, h2), req)
		if trailer := <-got; len(trailer) != 1 || trailer.Get("Checksum") != "abc" {
			t.Errorf("h2 %v: the backend got trailers %v, expected the checksum alone", h2, trailer)
		}
		if res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Late") != "yes" {
			t.Errorf("h2 %v: the caller got trailers %v", h2, res.Trailer)
		}
		for name, vv := range res.Trailer {
			if strings.HasPrefix(name, "Fairlead") && len(vv) > 0 {
				t.Errorf("h2 %v: the caller got the trailer %s: %q", h2, name, vv)
			}
		}
		if v := res.Header.Get("Fairlead-Evil") + res.Header.Get("Alt-Svc"); v != "" {
			t.Errorf("h2 %v: the caller got the backend's %q", h2, v)
		}
		if ps := res.Header.Get("Proxy-Status"); !strings.HasPrefix(ps, "fairlead; received-status=200; call_id=") {
			t.Errorf("h2 %v: Proxy-Status is %q", h2, ps)
		}
		if len(res.Header["Fairlead-Call-Id"]) != 1 {
			t.Errorf("h2 %v: Fairlead-Call-Id is %q", h2, res.Header["Fairlead-Call-Id"])
		}
	}
}

func TestRedirectsAndStatusesPassUntouched(t *testing.T) { // S05
	r := newRig(t, nil)
	r.backend(func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, "https://elsewhere.example/", http.StatusFound)
	})
	res, _ := r.do(r.request("GET", "orders", "/", nil))
	if res.StatusCode != 302 || res.Header.Get("Location") != "https://elsewhere.example/" {
		t.Fatalf("status %d, location %q", res.StatusCode, res.Header.Get("Location"))
	}
}

func TestExpectContinueReachesTheBackendAndItsAnswerComesBack(t *testing.T) {
	for _, accept := range []bool{true, false} {
		r := newRig(t, nil)
		r.backend(func(w http.ResponseWriter, q *http.Request) {
			if !accept {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			b, _ := io.ReadAll(q.Body)
			_, _ = w.Write(b)
		})
		sent := false
		req := r.request("POST", "orders", "/", &spy{strings.NewReader("body"), &sent})
		req.Header.Set("Expect", "100-continue")
		res, body := r.do(req)
		if accept && (res.StatusCode != 200 || body != "body") || !accept && (res.StatusCode != 401 || sent) {
			t.Errorf("accept %v: status %d, body %q, sent %v", accept, res.StatusCode, body, sent)
		}
	}
}

type spy struct {
	io.Reader
	read *bool
}

func (s *spy) Read(p []byte) (int, error) {
	*s.read = true
	return s.Reader.Read(p)
}

func TestEarlyHintsPass(t *testing.T) {
	r := newRig(t, nil)
	r.backend(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.Header().Set("Fairlead-Evil", "x")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Del("Fairlead-Evil")
	})
	var hints []textproto.MIMEHeader
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		hints = append(hints, h)
		return nil
	}})
	res, _ := r.do(r.request("GET", "orders", "/", nil).WithContext(ctx))
	if len(hints) != 1 || hints[0].Get("Link") == "" || hints[0].Get("Fairlead-Evil") != "" {
		t.Errorf("hints are %v", hints)
	}
	if res.Header.Get("Fairlead-Call-Id") == "" {
		t.Error("the answer behind the hints has no call id")
	}
}

func TestTraceContextGoesIntoTheOpen(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct{ in, want string }{{parent, parent}, {"", ""}, {"bad\xff", ""}, {strings.Repeat("x", 200), ""}} {
		h := http.Header{"Traceparent": {c.in}, "Tracestate": {"a=b", "c=d"}}
		got, state := traceContext(h)
		if got != c.want || (got != "") != (state == "a=b,c=d") {
			t.Errorf("%q: traceparent %q, tracestate %q", c.in, got, state)
		}
	}
}
